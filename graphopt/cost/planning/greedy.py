"""Placement in one pass: every interval into a gap among those that were placed before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.planning.intervals import Interval

Fit = Literal["first", "best"]


def by_size(intervals: Sequence[Interval]) -> list[int]:
    """Return the order of TFLite Micro's planner: the largest first, then the earliest."""
    return sorted(range(len(intervals)), key=lambda i: (-intervals[i].size, intervals[i].lower, i))


def by_area(intervals: Sequence[Interval]) -> list[int]:
    """Return the order of size times duration, the largest first."""
    return sorted(
        range(len(intervals)),
        key=lambda i: (-intervals[i].size * (intervals[i].upper - intervals[i].lower), i),
    )


def by_time(intervals: Sequence[Interval]) -> list[int]:
    """Return the order of execution, as an allocator meets it."""
    return sorted(range(len(intervals)), key=lambda i: (intervals[i].lower, i))


def place_in_order(
    intervals: Sequence[Interval], order: Sequence[int], fit: Fit = "first"
) -> list[int]:
    """Return the offset of each interval when they are placed in ``order``.

    Args:
        intervals: what to place.
        order: positions in ``intervals``, each once.
        fit: the lowest gap that is large enough, or the smallest one.
    """
    offsets = [0] * len(intervals)
    placed: list[int] = []
    for i in order:
        one = intervals[i]
        if one.size == 0 or one.upper <= one.lower:
            continue
        taken = sorted(
            (offsets[j], offsets[j] + intervals[j].size)
            for j in placed
            if intervals[j].lower < one.upper and one.lower < intervals[j].upper
        )
        offsets[i] = _gap(taken, one.size, fit)
        placed.append(i)
    return offsets


def height(intervals: Sequence[Interval], offsets: Sequence[int]) -> int:
    """Return the end of the highest interval."""
    ends = (o + one.size for one, o in zip(intervals, offsets, strict=True))
    return max(ends, default=0)


def _gap(taken: Sequence[tuple[int, int]], size: int, fit: Fit) -> int:
    end, chosen, smallest = 0, -1, 0
    for low, high in taken:
        room = low - end
        if room >= size and (chosen < 0 or room < smallest):
            chosen, smallest = end, room
            if fit == "first":
                return chosen
        end = max(end, high)
    return chosen if chosen >= 0 else end
