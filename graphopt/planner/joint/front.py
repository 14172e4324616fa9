"""Which models no other is better than in everything, and which of them to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.planner.joint.candidates import Made

FASTEST, SMALLEST, MOST_ACCURATE, BALANCED = "fastest", "smallest", "most-accurate", "balanced"
RULES = (FASTEST, SMALLEST, MOST_ACCURATE, BALANCED)
_EQUAL = 1e-9


@dataclass(frozen=True)
class Point:
    """One model as the front sees it; every figure is better when it is smaller.

    Args:
        made: the model.
        costs: drop of accuracy, latency, size, memory, energy; what is not known is 0 for all.
    """

    made: Made
    costs: tuple[float, ...]

    @staticmethod
    def of(made: Made) -> Point:
        """Return the point of a model that has figures and a score."""
        assert made.figures is not None
        assert made.score is not None
        told = made.figures
        return Point(
            made,
            (
                made.score.drop,
                told.latency_ms,
                float(told.size_bytes),
                float(told.ram_bytes),
                told.energy if told.energy is not None else 0.0,
            ),
        )

    def dominates(self, other: Point) -> bool:
        """Whether this is nowhere worse, and somewhere better."""
        pairs = list(zip(self.costs, other.costs, strict=True))
        nowhere_worse = all(mine <= theirs + _EQUAL for mine, theirs in pairs)
        return nowhere_worse and any(mine < theirs - _EQUAL for mine, theirs in pairs)


def front_of(points: Sequence[Point]) -> list[Point]:
    """Return the points that none dominates, in their order; of equal ones the first."""
    found: list[Point] = []
    for index, point in enumerate(points):
        beaten = any(other.dominates(point) for other in points)
        same = any(other.costs == point.costs for other in points[:index])
        if not beaten and not same:
            found.append(point)
    return found


def pick(points: Sequence[Point], rule: str) -> Point:
    """Return the point that a rule prefers; the label decides between equals.

    Args:
        points: that may be taken; at least one.
        rule: "fastest", "smallest", "most-accurate", or "balanced": the one that is nearest to the
            best of each of drop, latency and size, each over its range.
    """
    if rule == BALANCED:
        return min(points, key=lambda p: (_distance(p, points), p.made.candidate.label))
    order = {FASTEST: (1, 0, 2), SMALLEST: (2, 1, 0), MOST_ACCURATE: (0, 1, 2)}[rule]
    return min(points, key=lambda p: (*(p.costs[i] for i in order), p.made.candidate.label))


def _distance(point: Point, points: Sequence[Point]) -> float:
    total = 0.0
    for axis in range(3):
        values = [p.costs[axis] for p in points]
        spread = max(values) - min(values)
        total += ((point.costs[axis] - min(values)) / spread) ** 2 if spread else 0.0
    return total
