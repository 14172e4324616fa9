"""Offsets for intervals: greedy orders first, then beams, until the bound or the budget is met."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from graphopt.cost.planning.beam import BeamSearch, Strategy
from graphopt.cost.planning.greedy import by_area, by_size, by_time, height, place_in_order
from graphopt.cost.planning.intervals import Interval, lower_bound, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from graphopt.cost.planning.intervals import Part

EFFORT = 450_000_000
"""Cells that all beams together may look at: 0.4 to 0.8 s on one core of a Zen 4 server."""

_FIRST: tuple[Strategy, ...] = (
    Strategy("small", "narrowest"),
    Strategy("large-long", "fullest"),
    Strategy("size", "narrowest"),
    Strategy("area", "fullest"),
    Strategy("long-large", "fullest"),
    Strategy("small", "fullest"),
    Strategy("large-long", "narrowest"),
    Strategy("long-large", "narrowest"),
    Strategy("size", "fullest"),
    Strategy("area", "narrowest"),
    Strategy("long", "fullest"),
)
_WIDER = ((4, 16), (8, 8), (8, 16), (16, 16), (32, 16))
"""Widths and branches with which the strategies are tried again."""


@dataclass(frozen=True)
class Placement:
    """Where intervals lie.

    Args:
        offsets: in bytes, in the order of the intervals.
        height: end of the highest one, bytes.
        bound: the most bytes that are alive at once; no placement is lower.
        in_time: False where the clock stopped the search, so that a second run may differ.
    """

    offsets: tuple[int, ...]
    height: int
    bound: int
    in_time: bool = True

    @property
    def gap(self) -> float:
        """How far above the bound it is, relative; 0 says that it is optimal."""
        return self.height / self.bound - 1 if self.bound else 0.0


@dataclass
class _Task:
    """A part, the best that is known of it, and what is still to be tried."""

    part: Part
    offsets: list[int]
    height: int
    """In bytes, as are the offsets."""
    searches: Iterator[BeamSearch] = field(init=False)

    def __post_init__(self) -> None:
        """Line the strategies up."""
        self.searches = self._strategies()

    def improve(self, left: int, stop: Callable[[], bool]) -> int | None:
        """Try the next strategy; return the cells it took, None when nothing affordable is left."""
        search = next(self.searches, None)
        if search is None or search.work > left:
            return None
        found = search.run(self.height // self.part.unit, stop)
        if found is not None:
            self.height = found[0] * self.part.unit
            self.offsets = [int(o) * self.part.unit for o in found[1]]
        return search.work

    def _strategies(self) -> Iterator[BeamSearch]:
        yield from (BeamSearch(self.part, one) for one in _FIRST)
        for width, branches in _WIDER:
            for one in _FIRST:
                yield BeamSearch(self.part, Strategy(one.first, one.at, width, branches))


def place(
    intervals: Sequence[Interval], *, seconds: float = 1.0, effort: int = EFFORT
) -> Placement:
    """Return offsets at which no two intervals that are alive together overlap.

    Greedy placements by size, area and time come first (Pisarchyk and Lee, 2020). While the highest
    part is above the bound, beams search it for something lower. ``effort`` decides when that ends,
    so the same intervals give the same offsets; ``seconds`` only guards against a slow machine.

    Args:
        intervals: what to place.
        seconds: no beam goes on for longer than this.
        effort: cells that all beams together may look at; 0 for greedy placements only.
    """
    end = time.perf_counter() + seconds
    bound = lower_bound(intervals)
    tasks = [_task(intervals, part) for part in parts(intervals)]
    in_time, left = True, effort

    def late() -> bool:
        return time.perf_counter() > end

    while tasks:
        task = max(tasks, key=lambda one: one.height)
        if task.height <= bound:
            break
        if late():
            in_time = False
            break
        spent = task.improve(left, late)
        if spent is None:
            break
        left -= spent
    return _joined(intervals, tasks, bound, in_time=in_time)


def _task(intervals: Sequence[Interval], part: Part) -> _Task:
    chosen = [intervals[i] for i in part.places]
    tried = [
        place_in_order(chosen, by_size(chosen)),
        place_in_order(chosen, by_area(chosen)),
        place_in_order(chosen, by_time(chosen), "best"),
    ]
    best = min(tried, key=lambda offsets: height(chosen, offsets))
    return _Task(part, best, height(chosen, best))


def _joined(
    intervals: Sequence[Interval], tasks: Sequence[_Task], bound: int, *, in_time: bool
) -> Placement:
    offsets = np.zeros(len(intervals), dtype=np.int64)
    for task in tasks:
        offsets[list(task.part.places)] = task.offsets
    most = max((task.height for task in tasks), default=0)
    return Placement(tuple(offsets.tolist()), most, bound, in_time)
