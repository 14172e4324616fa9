"""A problem says the same time whole and in parts, and its borders are repaired to be a metric."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.planner.assignment.problem import ProblemDraft, metric_closure
from tests.unit.planner.assignment.random_problems import random_problem

costs = st.floats(0, 100, allow_nan=False)
tables = st.lists(st.lists(costs, min_size=4, max_size=4), min_size=4, max_size=4)


@given(tables)
@settings(deadline=None)
def test_the_closure_satisfies_the_triangle_inequality_and_is_never_dearer(
    given_rows: list[list[float]],
) -> None:
    rows = [[0.0 if i == j else c for j, c in enumerate(r)] for i, r in enumerate(given_rows)]
    table = tuple(map(tuple, rows))
    closed = metric_closure(table)
    for i, j, k in itertools.product(range(4), repeat=3):
        assert closed[i][k] <= closed[i][j] + closed[j][k] + 1e-9
        assert closed[i][j] <= table[i][j]
    for row, again in zip(closed, metric_closure(closed), strict=True):
        assert again == pytest.approx(row)


@pytest.mark.parametrize("seed", range(8))
def test_the_time_around_vertices_is_what_changes_with_them(seed: int) -> None:
    problem = random_problem(seed, 7, 4)
    source = random.Random(seed)
    for _ in range(20):
        before = tuple(source.choice(problem.allowed(v)) for v in range(7))
        some = source.sample(range(7), source.randint(1, 4))
        after = tuple(
            source.choice(problem.allowed(v)) if v in some else c for v, c in enumerate(before)
        )
        change = problem.time_around(after, some) - problem.time_around(before, some)
        assert change == pytest.approx(problem.time(after) - problem.time(before), abs=1e-9)


def test_a_shared_conversion_is_paid_once() -> None:
    draft = ProblemDraft(("fp32", "int8"))
    for name in "abc":
        draft.times[name] = {"fp32": 10.0, "int8": 4.0}
    draft.shared.append(("a", ("b", "c"), "int8", {"fp32": 3.0}))
    problem = draft.problem()
    assert problem.time((0, 0, 0)) == 30.0
    assert problem.time((0, 1, 0)) == 24.0 + 3.0
    assert problem.time((0, 1, 1)) == 18.0 + 3.0
    assert problem.time((1, 1, 1)) == 12.0
    assert problem.time((1, 0, 0)) == 24.0
    assert problem.neighbours == ((1, 2), (0,), (0,))


def test_costs_below_nothing_are_nothing() -> None:
    draft = ProblemDraft(("fp32", "int8"))
    draft.times = {"a": {"fp32": 1.0}, "b": {"fp32": 1.0}}
    draft.charge("a", "b", ("fp32", "int8"), -5.0)
    assert draft.problem().borders == ()
