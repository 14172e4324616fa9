"""Placement from the bottom up: a narrow beam, judged by how high every moment must become.

A state says which intervals are placed, and for each other one its floor: the highest end among
the placed ones that it overlaps. At a moment with floors f and R units yet to place, the finished
height is at least min f + R. Placing an interval raises floors, and where it buries space that
nothing else can use, that bound grows at once, long before the waste is seen at the top. States are
compared by the bounds of all moments, in a norm of high power: the worst moment matters most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.cost.planning.intervals import Flags, Ints, Part

_PLACED = np.int64(1) << 40
_SQUARINGS = 6
"""States are compared in the norm of power 2**6: of powers 20 to 320 about 80 was best."""

_CELLS_PER_LEVEL = 150_000
"""What starting some thirty array operations costs, in cells."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Strategy:
    """One way to go through the states.

    Args:
        first: which interval to try first at equal floors.
        at: which of the lowest moments to fill first: where most is left, or the narrowest valley.
        width: states that are kept.
        branches: intervals that are tried from each state.
    """

    first: Literal["size", "area", "long", "small", "long-large", "large-long"]
    at: Literal["fullest", "narrowest"]
    width: int = 4
    branches: int = 8


@dataclass
class States:
    """Partial placements with equally many intervals placed; the leading axis counts them."""

    floors: Ints
    """(states, n); ``_PLACED`` and more for what is placed."""
    left: Ints
    """(states, moments): units yet to place."""
    tops: Ints
    """(states, moments): end of the highest placed interval."""
    reach: Ints
    """(states, moments): lowest floor of what is not placed."""
    marks: Ints
    """(states,): a fingerprint of the set that is placed."""


@dataclass(frozen=True)
class _Choice:
    """How the states of one level came from those before."""

    parents: Ints
    intervals: Ints
    offsets: Ints


class BeamSearch:
    """Searches one part with one strategy for a placement lower than a ceiling."""

    def __init__(self, part: Part, strategy: Strategy) -> None:
        """Number the intervals in the order in which ``strategy`` tries them."""
        self._strategy = strategy
        self._rank = np.lexsort((np.arange(len(part.sizes)), -_priority(part, strategy)))
        self._sizes = part.sizes[self._rank]
        self._cover = part.cover[self._rank]
        self._overlap = part.overlap[np.ix_(self._rank, self._rank)]
        self._weights = self._cover * self._sizes[:, None]
        self._bound = part.bound
        moments, self._members = np.nonzero(self._cover.T)
        self._starts = np.searchsorted(moments, np.arange(self._cover.shape[1]))
        self._marks = np.random.default_rng(0).integers(1 << 62, size=len(self._sizes))
        cells = strategy.width * strategy.branches * len(self._members)
        self.work = len(self._sizes) * (cells + _CELLS_PER_LEVEL)
        """Cells that a whole search looks at, at most."""

    def run(self, ceiling: int, stop: Callable[[], bool]) -> tuple[int, Ints] | None:
        """Return a height below ``ceiling`` and the offsets; None if none was found, or stopped."""
        states = self._start()
        history: list[_Choice] = []
        for _ in range(len(self._sizes)):
            if stop():
                return None
            found = self._advance(states, ceiling)
            if found is None:
                return None
            states, choice = found
            history.append(choice)
        heights = states.tops.max(axis=1)
        best = int(heights.argmin())
        return int(heights[best]), self._trace(history, best)

    def _start(self) -> States:
        count, moments = self._cover.shape
        nothing = np.zeros((1, moments), dtype=np.int64)
        left = self._weights.sum(axis=0)[None]
        floors = np.zeros((1, count), dtype=np.int64)
        return States(floors, left, nothing, nothing, np.zeros(1, dtype=np.int64))

    def _advance(self, states: States, ceiling: int) -> tuple[States, _Choice] | None:
        parents, chosen = self._branches(states)
        offsets = states.floors[parents, chosen]
        children = self._children(states, parents, chosen, offsets + self._sizes[chosen])
        bounds = self.finished_heights(children)
        scores = self._scores(bounds)
        scores[bounds.max(axis=1) >= ceiling] = np.inf
        kept = self._select(children, scores)
        if not len(kept):
            return None
        choice = _Choice(parents[kept], chosen[kept], offsets[kept])
        return _only(children, kept), choice

    def _branches(self, states: States) -> tuple[Ints, Ints]:
        """Return pairs of a state and an interval to place next: those over its lowest moment."""
        moments = self._lowest_moments(states)
        over = np.where(self._cover[:, moments].T, states.floors, _PLACED)
        nearest = np.argsort(over, axis=1, kind="stable")[:, : self._strategy.branches]
        parents, columns = np.nonzero(np.take_along_axis(over, nearest, axis=1) < _PLACED)
        return parents, nearest[parents, columns]

    def _lowest_moments(self, states: States) -> Ints:
        lowest = states.reach == states.reach.min(axis=1, keepdims=True)
        if self._strategy.at == "narrowest":
            return np.array(
                [_narrowest(a, b) for a, b in zip(lowest, states.left, strict=True)], dtype=np.intp
            )
        fullest: Ints = np.where(lowest, states.left, -1).argmax(axis=1)
        return fullest

    def _children(self, states: States, parents: Ints, chosen: Ints, ends: Ints) -> States:
        floors = states.floors[parents]
        raised = np.maximum(floors, ends[:, None])
        np.copyto(floors, raised, where=self._overlap[chosen])
        floors[np.arange(len(chosen)), chosen] = _PLACED
        reach = np.minimum.reduceat(np.take(floors, self._members, axis=1), self._starts, axis=1)
        return States(
            floors,
            states.left[parents] - self._weights[chosen],
            np.where(self._cover[chosen], ends[:, None], states.tops[parents]),
            reach,
            states.marks[parents] ^ self._marks[chosen],
        )

    def finished_heights(self, states: States) -> Ints:
        """Return how high every moment becomes at least, shape (states, moments)."""
        return np.where(states.left > 0, states.reach + states.left, states.tops)

    def _scores(self, bounds: Ints) -> Floats:
        powers = bounds / self._bound
        for _ in range(_SQUARINGS):
            powers *= powers
        scores: Floats = powers.sum(axis=1)
        return scores

    def _select(self, children: States, scores: Floats) -> Ints:
        """Return the best children; of those that differ only in how they came about, one."""
        open_floors = np.where(children.floors < _PLACED, children.floors, 0).sum(axis=1)
        seen: set[tuple[int, int]] = set()
        kept: list[int] = []
        for i in np.argsort(scores, kind="stable").tolist():
            if len(kept) == self._strategy.width or scores[i] == np.inf:
                break
            mark = (int(children.marks[i]), int(open_floors[i]))
            if mark not in seen:
                seen.add(mark)
                kept.append(i)
        return np.array(kept, dtype=np.intp)

    def _trace(self, history: list[_Choice], state: int) -> Ints:
        offsets = np.zeros(len(self._sizes), dtype=np.int64)
        for choice in reversed(history):
            offsets[self._rank[choice.intervals[state]]] = choice.offsets[state]
            state = int(choice.parents[state])
        return offsets


def _only(states: States, kept: Ints) -> States:
    return States(
        states.floors[kept],
        states.left[kept],
        states.tops[kept],
        states.reach[kept],
        states.marks[kept],
    )


def _narrowest(lowest: Flags, left: Ints) -> int:
    """Return the fullest moment of the shortest run of lowest moments."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lowest, [False]])))
    begins, ends = edges[::2], edges[1::2]
    width = ends - begins
    runs = np.repeat(width, width)
    moments = np.flatnonzero(lowest)
    return int(moments[np.lexsort((-left[moments], runs))[0]])


def _priority(part: Part, strategy: Strategy) -> Floats:
    size, length = part.sizes.astype(np.float64), part.durations.astype(np.float64)
    values: dict[str, Floats] = {
        "size": size,
        "area": size * length,
        "long": length,
        "small": -size,
        "long-large": length * np.sqrt(size),
        "large-long": size * np.sqrt(length),
    }
    return values[strategy.first]
