"""A histogram of a stream: fixed memory, a range that grows, the same result in any order."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphopt.calibration.base import Array

# Bin numbers stay below 2**24, where float32 still tells neighbouring integers apart.
_INDEX_BITS = 24
_SMALLEST_EXPONENT = -100
_BLOCK = 1 << 16  # values that are binned at once: they stay within the cache
_SMALL = 1 << 14  # smaller batches are binned together, which costs a copy and saves a lot
_PENDING = 1 << 15
_NARROW = 1 << 15  # bins that int16 can number
_NOT_FINITE = "a histogram cannot hold NaN or infinity"


class _Scratch(threading.local):
    """Buffers of one block, one set per thread, so that nothing is allocated while binning."""

    def __init__(self) -> None:
        self.scaled: dict[np.dtype[np.floating], Array] = {}
        self.narrow = np.empty(_BLOCK, dtype=np.int16)
        self.wide = np.empty(_BLOCK, dtype=np.int32)

    def like(self, dtype: np.dtype[np.floating]) -> Array:
        """Return the buffer for floats of one kind."""
        if dtype not in self.scaled:
            self.scaled[dtype] = np.empty(_BLOCK, dtype=dtype)
        return self.scaled[dtype]


_scratch = _Scratch()


class StreamingHistogram:
    """Counts of values in bins [i * 2^e, (i + 1) * 2^e).

    ``e`` is the smallest integer with which ``bins`` neighbouring bins cover everything seen. Bin
    edges are multiples of a power of two, so doubling the width merges whole pairs of bins: the
    counts after a merge are those that the wider bins would have collected from the start, and the
    result depends on the values only, never on the order or the size of batches.

    Args:
        bins: number of bins, a power of two, at least 2. The width is at most
            2 * (max - min) / (bins - 1), unless (max - min) is below max|value| / 2^24.
    """

    def __init__(self, bins: int = 4096) -> None:
        if bins < 2 or bins & (bins - 1):
            raise ValueError(f"bins must be a power of two, at least 2, not {bins}")
        self.bins = bins
        self._counts = np.zeros(bins, dtype=np.int64)
        self._pending: Array = np.empty(0)  # small batches that are not binned yet
        self._pending_size = 0
        self._total = 0
        self._low = math.inf
        self._high = -math.inf
        self._exponent = _SMALLEST_EXPONENT
        self._base = 0

    @classmethod
    def restore(
        cls, counts: Array, *, exponent: int, first: int, low: float, high: float
    ) -> StreamingHistogram:
        """Return a histogram that was taken apart; raises ValueError when its parts disagree."""
        histogram = cls(len(counts))
        wanted = _smallest_exponent(low, high, len(counts)) if low <= high else None
        filled = np.flatnonzero(counts)
        if exponent != wanted or filled.size == 0 or (counts < 0).any():
            raise ValueError("not a histogram")
        # What is counted lies between the extremes, and both of them are counted.
        ends = [math.floor(math.ldexp(end, -exponent)) - first for end in (low, high)]
        if [int(filled[0]), int(filled[-1])] != ends:
            raise ValueError("not a histogram")
        histogram._counts += counts
        histogram._total = int(histogram._counts.sum())
        histogram._low, histogram._high = low, high
        histogram._exponent, histogram._base = exponent, first
        return histogram

    @property
    def counts(self) -> Array:
        """Number of values in each bin; int64 [bins]."""
        self._flush()
        self._pending = np.empty(0)  # likely the end: a histogram that is kept needs no room
        return self._counts

    @property
    def total(self) -> int:
        """Number of values."""
        return self._total

    @property
    def low(self) -> float:
        """Smallest value; infinity when there is none."""
        self._flush()
        return self._low

    @property
    def high(self) -> float:
        """Largest value; minus infinity when there is none."""
        self._flush()
        return self._high

    @property
    def width(self) -> float:
        """Width of one bin, in the unit of the values."""
        return math.ldexp(1.0, self.exponent)

    @property
    def exponent(self) -> int:
        """The e of the class: bins are 2^e wide."""
        self._flush()
        return self._exponent

    @property
    def first(self) -> int:
        """Number i of the first bin, which is [i * 2^e, (i + 1) * 2^e)."""
        self._flush()
        return self._base

    def add(self, values: Array) -> None:
        """Count ``values``, of any shape; raises ValueError on NaN and infinity."""
        if values.size == 0:
            return
        if values.dtype != np.float32 and values.dtype != np.float64:
            values = values.astype(np.float64)
        if values.size < _SMALL:
            self._wait(values)
        else:
            self._count(values.reshape(-1))
        self._total += values.size

    def around_zero(self, *, symmetric: bool = False) -> tuple[Array, int, float]:
        """Return the counts with bins that reach zero, merged until they are few enough.

        Args:
            symmetric: whether the bins cover [-max|x|, max|x|] (at most twice as many), or
                [min(low, 0), max(high, 0)].

        Returns:
            float64 [n], the number of the first bin, and their width.

        Raises:
            ValueError: nothing was counted.
        """
        if self.total == 0:
            raise ValueError("an empty histogram covers nothing")
        low, high, bins = min(self.low, 0.0), max(self.high, 0.0), self.bins
        if symmetric:
            low, high, bins = min(low, -high), max(high, -low), 2 * bins
        exponent = max(_smallest_exponent(low, high, bins), self._exponent)
        first = math.floor(math.ldexp(low, -exponent))
        filled = np.flatnonzero(self.counts)
        numbers = ((filled + self._base) >> min(exponent - self._exponent, 62)) - first
        size = math.floor(math.ldexp(high, -exponent)) - first + 1
        counts = np.bincount(numbers, weights=self.counts[filled], minlength=size)
        return counts, first, math.ldexp(1.0, exponent)

    def quantile(self, fraction: float) -> float:
        """Return the value below which ``fraction`` of all values lie.

        Interpolates linearly between the two nearest order statistics; each is known to within its
        bin, so the result is within one bin width of the exact quantile. 0 and 1 are exact.

        Args:
            fraction: 0 to 1.

        Raises:
            ValueError: nothing was counted.
        """
        if self.total == 0:
            raise ValueError("an empty histogram has no quantiles")
        position = fraction * (self.total - 1)
        below = math.floor(position)
        cumulative = np.cumsum(self.counts)
        first = self._order_statistic(below, cumulative)
        second = self._order_statistic(min(below + 1, self.total - 1), cumulative)
        return first + (position - below) * (second - first)

    def _order_statistic(self, rank: int, cumulative: Array) -> float:
        if rank == 0:
            return self.low
        if rank == self.total - 1:
            return self.high
        index = int(np.searchsorted(cumulative, rank, side="right"))
        inside = int(self.counts[index])
        position = (rank - (int(cumulative[index]) - inside) + 0.5) / inside
        value = math.ldexp(self._base + index + position, self._exponent)
        return min(max(value, self.low), self.high)

    def _wait(self, values: Array) -> None:
        """Keep a small batch until there are enough; raises ValueError on NaN and infinity."""
        start, stop = self._pending_size, self._pending_size + values.size
        if stop > self._pending.size or values.dtype != self._pending.dtype:
            self._flush()
            if values.dtype != self._pending.dtype or not self._pending.size:
                self._pending = np.empty(_PENDING, dtype=values.dtype)
            start, stop = 0, values.size
        flat = self._pending[start:stop]
        flat.reshape(values.shape)[...] = values
        # A square that is finite comes of finite values; the product costs less than a search.
        if not math.isfinite(np.vdot(flat, flat)) and not np.isfinite(flat).all():
            raise ValueError(_NOT_FINITE)
        self._pending_size = stop

    def _flush(self) -> None:
        if self._pending_size:
            size, self._pending_size = self._pending_size, 0
            self._count(self._pending[:size])

    def _count(self, flat: Array) -> None:
        """Widen the range to cover the values, and bin them."""
        low, high = float(np.minimum.reduce(flat)), float(np.maximum.reduce(flat))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(_NOT_FINITE)
        if low < self._low or high > self._high:
            self._cover(min(low, self._low), max(high, self._high))
        factor = flat.dtype.type(math.ldexp(1.0, -self._exponent))
        for start in range(0, flat.size, _BLOCK):
            self._count_block(flat[start : start + _BLOCK], factor)

    def _count_block(self, block: Array, factor: Any) -> None:
        scaled = _scratch.like(block.dtype)[: block.size]
        numbers = (_scratch.narrow if self.bins <= _NARROW else _scratch.wide)[: block.size]
        # Multiplying by a power of two is exact, so no value lands in a neighbouring bin.
        np.multiply(block, factor, out=scaled)
        if self._base < 0:  # from zero on, the conversion to integers rounds down by itself
            np.floor(scaled, out=scaled)
        if self._base:  # exact too: of integers, or towards zero
            np.subtract(scaled, scaled.dtype.type(self._base), out=scaled)
        np.copyto(numbers, scaled, casting="unsafe")  # from 0 to bins - 1
        found = np.bincount(numbers)
        self._counts[: found.size] += found

    def _cover(self, low: float, high: float) -> None:
        exponent = _smallest_exponent(low, high, self.bins)
        base = math.floor(math.ldexp(low, -exponent))
        shift = min(exponent - self._exponent, 62)
        if self._low <= self._high and (shift or base != self._base):
            filled = np.flatnonzero(self._counts)
            moved = np.zeros_like(self._counts)
            if shift:
                np.add.at(moved, ((filled + self._base) >> shift) - base, self._counts[filled])
            else:
                first, stop = int(filled[0]), int(filled[-1]) + 1
                by = self._base - base
                moved[first + by : stop + by] = self._counts[first:stop]
            self._counts = moved
        self._low, self._high = low, high
        self._exponent, self._base = exponent, base


def _smallest_exponent(low: float, high: float, bins: int) -> int:
    """Return the smallest exponent of a bin width with which ``bins`` bins cover [low, high]."""
    # Halved, because the difference of two finite doubles may be infinite.
    half_span = _binary_exponent(high / 2 - low / 2)
    largest = _binary_exponent(max(abs(low), abs(high)))
    exponent = max(
        half_span + 1 - bins.bit_length(),  # one bin too few by construction: the loop ends above
        largest - _INDEX_BITS,
        _SMALLEST_EXPONENT,
    )
    while _bins_between(low, high, exponent) > bins:
        exponent += 1
    return exponent


def _binary_exponent(value: float) -> int:
    """Return e with 2^(e-1) <= value < 2^e; zero has none, so it gets one that never decides."""
    return math.frexp(value)[1] if value else 2 * _SMALLEST_EXPONENT


def _bins_between(low: float, high: float, exponent: int) -> int:
    return math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) + 1
