"""Every backend case of the onnx package keeps its outputs in the whole lossless pipeline."""

from __future__ import annotations

import pytest

from graphopt.api.compiler import compile_model
from graphopt.errors import GraphOptError
from graphopt.registry import Registry
from graphopt.runtime import open_session
from tests.backend.cases import groups, load
from tests.backend.exact import assert_equal_outputs
from tests.backend.judging import graph_of, is_listed_version, judged, listed, reason

FEWEST_CASES = 1900
MOST_UNJUDGED = {"no-kernel": 412, "not-fed": 95, "differs": 22}
"""What the list may grow to: with a newer onnx, this is where somebody has to say so."""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(plugins=())


@pytest.mark.parametrize("group", groups())
def test_the_lossless_recipe_keeps_every_output(group: str, registry: Registry) -> None:
    for case in judged(load(group)):
        compiled = compile_model(
            graph_of(case), recipe="lossless", target="host", measure=False, registry=registry
        )
        undone = [p.name for p in compiled.report.passes if p.status == "rolled back"]
        assert not undone, f"{case.name}: only the check saved {undone}"
        session = open_session(compiled.graph)
        for feed, wanted in case.sets:
            taken = {name for name, *_ in session.inputs}
            found = session.run({k: v for k, v in feed.items() if k in taken})
            assert_equal_outputs(wanted, found, rtol=case.rtol, atol=case.atol, who=case.name)


@pytest.mark.parametrize("group", groups())
def test_what_cannot_run_is_refused_in_words(group: str, registry: Registry) -> None:
    """No traceback: an error with a code, or a model where graphopt could make it run."""
    codes = {}
    for case in load(group):
        if reason(case) != "no-kernel":
            continue
        try:
            compile_model(
                graph_of(case), recipe="lossless", target="host", measure=False, registry=registry
            )
        except GraphOptError as error:
            codes[case.name] = error.code
    assert all(codes.values()), codes


def test_the_list_of_what_cannot_be_judged_does_not_grow() -> None:
    assert {key: len(names) for key, names in listed().items()} == MOST_UNJUDGED
    cases = [case.name for group in groups() for case in load(group)]
    assert len(cases) >= FEWEST_CASES
    if is_listed_version():
        unknown = {n for names in listed().values() for n in names} - set(cases)
        assert not unknown, f"the list names cases that do not exist: {sorted(unknown)}"
