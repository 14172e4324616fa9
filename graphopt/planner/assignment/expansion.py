"""The labelling of least energy: exactly with two labels, by alpha-expansion with more.

Alpha-expansion proposes one label after the other to all vertices until none is taken. With borders
that satisfy the triangle inequality its result costs at most 2 c times the optimum, where c is the
ratio of the dearest border to the cheapest; from several starts it nearly always is the optimum
(tests compare with enumeration).

Source: Boykov, Veksler, Zabih 2001, "Fast approximate energy minimization via graph cuts".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.planner.assignment.moves import mixed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.planner.assignment.problem import Labels, Problem

_ROUNDS = 20
"""Rounds over all labels; two or three are usual."""


def cheapest(problem: Problem, weight: float, starts: Iterable[Labels] = ()) -> Labels:
    """Return the labelling of least time + weight * noise.

    Args:
        problem: what to label.
        weight: microseconds that a unit of noise is worth, at least 0.
        starts: labellings to start from too: those of a similar weight, for example.
    """
    corners = [_everywhere(problem, label) for label in range(len(problem.labels))]
    if len(problem.labels) == 2:
        return mixed(problem, weight, corners[0], corners[1])
    tried = dict.fromkeys((*starts, *corners, _apart(problem, weight)))
    found = dict.fromkeys(_expanded(problem, weight, start) for start in tried)
    return min(found, key=lambda chosen: problem.energy(chosen, weight))


def between(problem: Problem, weight: float, low: Labels, high: Labels) -> Labels:
    """Return the labelling of least energy between those of a smaller and of a larger weight.

    With two labels the solutions are nested: what is in float at a small weight is so at a larger
    one, if float makes no noise. Only what differs is solved for, then, and the result is exact.
    With more labels the best mixture of the two is where alpha-expansion starts.

    Source: Gallo, Grigoriadis, Tarjan 1989, "A fast parametric maximum flow algorithm".
    """
    if len(problem.labels) == 2 and _is_monotone(problem):
        return mixed(problem, weight, low, high)
    return _expanded(problem, weight, mixed(problem, weight, low, high))


def _is_monotone(problem: Problem) -> bool:
    """Whether one and the same label is the quieter one for every vertex that has both."""
    rows = (n for v, n in enumerate(problem.noises) if len(problem.allowed(v)) == 2)
    signs = {row[0] <= row[1] for row in rows if row[0] != row[1]}
    return len(signs) < 2


def _expanded(problem: Problem, weight: float, start: Labels) -> Labels:
    best, energy = start, problem.energy(start, weight)
    for _ in range(_ROUNDS):
        before = energy
        for label in range(len(problem.labels)):
            found = mixed(problem, weight, best, _everywhere(problem, label, best))
            value = problem.energy(found, weight)
            if value < energy:
                best, energy = found, value
        if energy >= before - 1e-9 * abs(before):
            break
    return best


def _everywhere(problem: Problem, label: int, otherwise: Labels | None = None) -> Labels:
    """Return the labelling with one label wherever it is allowed."""
    rest = otherwise or tuple(problem.allowed(v)[0] for v in range(len(problem.names)))
    allowed = (problem.allowed(v) for v in range(len(problem.names)))
    return tuple(label if label in a else r for a, r in zip(allowed, rest, strict=True))


def _apart(problem: Problem, weight: float) -> Labels:
    """Return each vertex's cheapest label, as if there were no borders."""
    costs = (
        [t + weight * n for t, n in zip(times, noises, strict=True)]
        for times, noises in zip(problem.times, problem.noises, strict=True)
    )
    return tuple(row.index(min(row)) for row in costs)
