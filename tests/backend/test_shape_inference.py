"""Shapes that are inferred of the backend cases are those of the expected outputs."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.errors import GraphOptError
from tests.backend.cases import Case, groups, load
from tests.unit.ir.inference.soundness import mistakes, symbolic

_EVERY = 12
_GROUPS = [g for g in groups() if not g.startswith("light")]


def _wrong(case: Case) -> list[str]:
    try:
        graph = ir.from_bytes(case.model.SerializeToString())
    except GraphOptError:
        return []
    names = [v.name for v in graph.outputs]
    return [
        mistake
        for made in (graph.copy(), symbolic(graph))
        for feed, wanted in case.sets[:1]
        for mistake in mistakes(made, feed, dict(zip(names, wanted, strict=True)))
    ]


@pytest.mark.parametrize("group", _GROUPS[::_EVERY])
def test_some_cases(group: str) -> None:
    assert {c.name: w for c in load(group) if (w := _wrong(c))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("group", _GROUPS)
def test_all_cases(group: str) -> None:
    assert {c.name: w for c in load(group) if (w := _wrong(c))} == {}
