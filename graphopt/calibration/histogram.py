"""A histogram of a stream: fixed memory, a range that grows, the same result in any order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from graphopt.calibration.base import Array

# Bin numbers stay below 2**24, where float32 still tells neighbouring integers apart.
_INDEX_BITS = 24
_SMALLEST_EXPONENT = -100


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
        self.counts = np.zeros(bins, dtype=np.int64)
        self.total = 0
        self.low = math.inf
        self.high = -math.inf
        self._exponent = _SMALLEST_EXPONENT
        self._base = 0

    @property
    def width(self) -> float:
        """Width of one bin, in the unit of the values."""
        return math.ldexp(1.0, self._exponent)

    def add(self, values: Array) -> None:
        """Count ``values``, of any shape; raises ValueError on NaN and infinity."""
        if values.size == 0:
            return
        if values.dtype != np.float32 and values.dtype != np.float64:
            values = values.astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("a histogram cannot hold NaN or infinity")
        if low < self.low or high > self.high:
            self._cover(min(low, self.low), max(high, self.high))
        # Multiplying by a power of two is exact, so no value lands in a neighbouring bin.
        scaled = values.reshape(-1) * values.dtype.type(math.ldexp(1.0, -self._exponent))
        np.floor(scaled, out=scaled)
        scaled -= self._base
        self.counts += np.bincount(scaled.astype(np.intp), minlength=self.bins)
        self.total += values.size

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
        first = self._order_statistic(below)
        second = self._order_statistic(min(below + 1, self.total - 1))
        return first + (position - below) * (second - first)

    def _order_statistic(self, rank: int) -> float:
        if rank == 0:
            return self.low
        if rank == self.total - 1:
            return self.high
        cumulative = np.cumsum(self.counts)
        index = int(np.searchsorted(cumulative, rank, side="right"))
        inside = int(self.counts[index])
        position = (rank - (int(cumulative[index]) - inside) + 0.5) / inside
        value = math.ldexp(self._base + index + position, self._exponent)
        return min(max(value, self.low), self.high)

    def _cover(self, low: float, high: float) -> None:
        exponent = _smallest_exponent(low, high, self.bins)
        base = math.floor(math.ldexp(low, -exponent))
        if self.total:
            filled = np.flatnonzero(self.counts)
            shift = min(exponent - self._exponent, 62)
            merged = np.zeros_like(self.counts)
            np.add.at(merged, ((filled + self._base) >> shift) - base, self.counts[filled])
            self.counts = merged
        self.low, self.high = low, high
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
