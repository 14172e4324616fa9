"""All labellings that are cheapest at some price of noise: the lower hull of noise and time.

Between two neighbouring solutions the price at which both cost the same is tried: a third one that
is cheaper there lies between them, or there is none. So each solve finds a new corner of the hull
or proves that a stretch of it has none, and all of them are found unless the bound comes first.

Source: Eisner, Severance 1976, "Mathematical techniques for efficient record segmentation in large
shared databases".
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.planner.assignment.expansion import between, cheapest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.planner.assignment.problem import Labels, Problem

_RELATIVE = 1e-9


@dataclass(frozen=True)
class Corner:
    """One labelling of the hull: microseconds, and noise power over signal power."""

    chosen: Labels
    time: float
    noise: float


@dataclass(frozen=True)
class Sweep:
    """The corners, fastest first.

    Args:
        corners: each slower and less noisy than the one before.
        is_complete: whether every corner was found before the bound.
        solves: minimisations that were made.
    """

    corners: tuple[Corner, ...]
    is_complete: bool
    solves: int


def swept(problem: Problem, most: int = 64) -> Sweep:
    """Return the labellings that are cheapest for some weight of noise.

    Args:
        problem: what to label.
        most: minimisations to make at most; the widest stretches are searched first.
    """
    fast = corner_of(problem, cheapest(problem, 0.0))
    quiet = corner_of(problem, cheapest(problem, _dominating(problem)))
    found = {fast.chosen: fast, quiet.chosen: quiet}
    solves = 2
    queue: list[tuple[float, int, Corner, Corner]] = []
    _push(queue, solves, fast, quiet)
    while queue and solves < most:
        _, _, low, high = heapq.heappop(queue)
        weight = (high.time - low.time) / (low.noise - high.noise)
        solves += 1
        middle = corner_of(problem, between(problem, weight, low.chosen, high.chosen))
        line = low.time + weight * low.noise
        if middle.time + weight * middle.noise >= line - _RELATIVE * abs(line):
            continue
        found[middle.chosen] = middle
        _push(queue, 2 * solves, low, middle)
        _push(queue, 2 * solves + 1, middle, high)
    return Sweep(_hull(found.values()), not queue, solves)


def corner_of(problem: Problem, chosen: Labels) -> Corner:
    """Return a labelling with its time and noise."""
    return Corner(chosen, problem.time(chosen), problem.noise(chosen))


def _dominating(problem: Problem) -> float:
    """Return a weight at which any difference in noise counts for more than all the time."""
    noises = sorted({n for v in range(len(problem.names)) for n in problem.noises[v]})
    steps = [b - a for a, b in itertools.pairwise(noises) if b > a]
    finite = sum(t for row in problem.times for t in row if math.isfinite(t))
    finite += sum(max(map(max, b.table)) for b in problem.borders)
    finite += sum(max(s.costs) for s in problem.shared)
    # Beyond this the difference in time would be lost to rounding.
    return min((finite + 1.0) / min(steps, default=1.0), 1e9 * (finite + 1.0))


def _push(queue: list[tuple[float, int, Corner, Corner]], order: int, a: Corner, b: Corner) -> None:
    if b.time > a.time and a.noise > b.noise:
        width = math.log(a.noise / b.noise) if b.noise > 0 else math.inf
        heapq.heappush(queue, (-width * (b.time - a.time), order, a, b))


def _hull(corners: Iterable[Corner]) -> tuple[Corner, ...]:
    """Return what no other is faster and quieter than, fastest first."""
    kept: list[Corner] = []
    for corner in sorted(corners, key=lambda c: (c.time, c.noise)):
        if not kept or corner.noise < kept[-1].noise:
            kept.append(corner)
    return tuple(kept)
