"""Backend cases compute the same for older operator sets, or say which operator cannot."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.errors import GraphOptError, ModelError
from graphopt.runtime import open_session
from tests.backend.cases import Case, groups, load
from tests.backend.exact import assert_equal_outputs
from tests.backend.judging import graph_of, judged

_EVERY = 15
_GROUPS = [g for g in groups() if not g.startswith("light")]
_OLDER = (22, 20, 18, 17, 15, 13, 12, 11, 10, 9)


def _downgraded(case: Case, version: int) -> ir.Graph | None:
    graph = graph_of(case)
    before = ir.structural_hash(graph)
    try:
        ir.downgrade_opset(graph, version)
    except ModelError as error:
        if error.code != "G205" or ir.structural_hash(graph) != before:
            raise
        return None
    assert graph.opset <= version
    ir.verify(graph)
    return graph


def _check(case: Case, versions: tuple[int, ...]) -> None:
    for version in versions:
        try:
            graph = _downgraded(case, version)
        except GraphOptError as error:  # named here, so that the case is
            pytest.fail(f"{case.name} as opset {version}: {error}")
        if graph is None:
            continue
        session = open_session(graph)
        for feed, wanted in case.sets:
            taken = {name for name, *_ in session.inputs}
            found = session.run({k: v for k, v in feed.items() if k in taken})
            # Definitions compute step by step in the type of the data what a kernel does in one.
            rtol, atol = max(case.rtol, 1e-4), max(case.atol, 1e-5)
            who = f"{case.name} as opset {version}"
            assert_equal_outputs(wanted, found, rtol=rtol, atol=atol, who=who)


@pytest.mark.parametrize("group", _GROUPS[::_EVERY])
def test_some_cases_go_down(group: str) -> None:
    for case in judged(load(group)):
        _check(case, (18, 13))


@pytest.mark.slow
@pytest.mark.parametrize("group", _GROUPS)
def test_all_cases_go_down(group: str) -> None:
    for case in judged(load(group)):
        _check(case, _OLDER)
