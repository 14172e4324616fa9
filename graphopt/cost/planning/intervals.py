"""Buffers as intervals of time: what overlaps, which moments matter, what falls apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """Memory of ``size`` bytes that is alive in the half-open time ``[lower, upper)``."""

    lower: int
    upper: int
    size: int


@dataclass(frozen=True)
class Part:
    """Intervals that no moment of silence separates, and the moments that matter among them.

    A moment whose live intervals are all alive at a neighbouring moment adds nothing, so only the
    maximal ones are kept. Sizes are in units of their common divisor.

    Args:
        places: position of each interval in what was given.
        sizes: shape (n,).
        durations: in moments of the input, shape (n,).
        cover: whether an interval is alive at a moment, shape (n, moments).
        unit: bytes of one unit of size.
    """

    places: tuple[int, ...]
    sizes: Ints
    durations: Ints
    cover: Flags
    unit: int

    @property
    def overlap(self) -> Flags:
        """Whether two intervals are ever alive together, shape (n, n); False on the diagonal."""
        counts = self.cover.astype(np.float32)
        together = (counts @ counts.T) > 0
        np.fill_diagonal(together, val=False)
        return together

    @property
    def live(self) -> Ints:
        """Units alive at every moment."""
        return self.sizes @ self.cover

    @property
    def bound(self) -> int:
        """The most units that are alive at once: no placement is lower."""
        return int(self.live.max(initial=0))


def lower_bound(intervals: Sequence[Interval]) -> int:
    """Return the most bytes that are alive at once."""
    changes: dict[int, int] = {}
    for one in intervals:
        if one.upper > one.lower:
            changes[one.lower] = changes.get(one.lower, 0) + one.size
            changes[one.upper] = changes.get(one.upper, 0) - one.size
    now = most = 0
    for moment in sorted(changes):
        now += changes[moment]
        most = max(most, now)
    return most


def parts(intervals: Sequence[Interval]) -> tuple[Part, ...]:
    """Return the parts that share no moment; what is empty or never alive is in none."""
    real = [i for i, one in enumerate(intervals) if one.size > 0 and one.upper > one.lower]
    real.sort(key=lambda i: (intervals[i].lower, i))
    groups: list[list[int]] = []
    end = -math.inf
    for i in real:
        if intervals[i].lower >= end:
            groups.append([])
        groups[-1].append(i)
        end = max(end, intervals[i].upper)
    return tuple(_part(intervals, group) for group in groups)


def _part(intervals: Sequence[Interval], group: Sequence[int]) -> Part:
    chosen = [intervals[i] for i in group]
    lower = np.array([one.lower for one in chosen])
    upper = np.array([one.upper for one in chosen])
    sizes = np.array([one.size for one in chosen], dtype=np.int64)
    times = np.unique(np.concatenate([lower, upper]))
    first, last = np.searchsorted(times, lower), np.searchsorted(times, upper)
    moments = np.arange(len(times) - 1)
    cover = (first[:, None] <= moments) & (moments < last[:, None])
    unit = int(np.gcd.reduce(sizes))
    kept = cover[:, _maximal(cover)]
    return Part(tuple(group), sizes // unit, last - first, kept, unit)


def _maximal(cover: Flags) -> Ints:
    """Return the moments at which something begins after which, before the next one, ends.

    The live set is maximal exactly when the last change before it was a beginning and the next
    change is an end.
    """
    begins = (cover[:, 1:] & ~cover[:, :-1]).any(axis=0)
    ends = (cover[:, :-1] & ~cover[:, 1:]).any(axis=0)
    after = np.concatenate([[True], begins])
    before = np.concatenate([ends, [True]])
    return np.flatnonzero(after & before)
