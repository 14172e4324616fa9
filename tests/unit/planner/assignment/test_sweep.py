"""The sweep finds every corner of the hull; within a bound it is refined to nearly the optimum."""

from __future__ import annotations

import itertools
import math

import pytest

from graphopt.planner.assignment.sweep import swept
from graphopt.planner.assignment.within import fastest_within, neighbours_of
from tests.unit.planner.assignment.random_problems import every, least, random_problem


def hull(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the lower left convex hull of (time, noise)."""
    kept: list[tuple[float, float]] = []
    for point in sorted(points):
        if kept and point[1] >= kept[-1][1]:
            continue
        while len(kept) > 1 and _is_above(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return kept


def _is_above(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[0] - a[0]) * (a[1] - c[1]) >= (c[0] - a[0]) * (a[1] - b[1]) - 1e-12


@pytest.mark.parametrize("seed", range(12))
def test_all_corners_of_the_hull_are_found(seed: int) -> None:
    problem = random_problem(seed, 8, 2)
    found = swept(problem)
    wanted = hull([(problem.time(c), problem.noise(c)) for c in every(problem)])
    assert found.is_complete
    assert [c.time for c in found.corners] == pytest.approx([t for t, _ in wanted])
    assert [c.noise for c in found.corners] == pytest.approx([n for _, n in wanted])


def test_the_bound_on_minimisations_is_kept() -> None:
    problem = random_problem(3, 9, 3)
    found = swept(problem, most=3)
    assert found.solves == 3
    assert not found.is_complete
    assert len(swept(problem).corners) > len(found.corners) >= 2


def test_solutions_of_two_labels_are_nested() -> None:
    problem = random_problem(5, 9, 2)
    floats = [{v for v, c in enumerate(each.chosen) if c == 0} for each in swept(problem).corners]
    assert all(a <= b for a, b in itertools.pairwise(floats))


@pytest.mark.parametrize(("labels", "vertices"), [(2, 8), (3, 6)])
def test_within_a_bound_the_fastest_is_nearly_always_found(labels: int, vertices: int) -> None:
    hits, worst = 0, 1.0
    bounds = [10**-e for e in (4.2, 3.5, 3.0, 2.4)]
    seeds = range(8)
    for seed in seeds:
        problem = random_problem(seed, vertices, labels)
        corners = swept(problem).corners
        for bound in bounds:

            def cost(c: tuple[int, ...], p=problem, b=bound) -> float:  # type: ignore[no-untyped-def]
                return float(p.time(c)) if p.noise(c) <= b else math.inf

            best = least(problem, cost)
            found = fastest_within(problem, bound, corners)
            assert found is not None
            assert found.noise <= bound
            hits += found.time <= best * (1 + 1e-9)
            worst = max(worst, found.time / best)
    assert hits >= 0.9 * len(seeds) * len(bounds)
    assert worst < 1.1


def test_neighbours_differ_from_where_they_start() -> None:
    problem = random_problem(1, 6, 3)
    corners = swept(problem).corners
    start = corners[0].chosen
    found = neighbours_of(problem, start, 1.0, corners)
    assert start not in found
    assert len(found) == len(set(found))
    singles = {c for c in found if sum(a != b for a, b in zip(c, start, strict=True)) == 1}
    assert len(singles) == sum(len(problem.allowed(v)) - 1 for v in range(6))
