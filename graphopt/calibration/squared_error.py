"""The range with the smallest squared error: rounding inside it against clipping outside.

The search uses the model of fine steps, whose error is uniform: E(l, h) = N(l, h) step^2 / 12 +
sum_{x < l} (x - l)^2 + sum_{x > h} (x - h)^2, with prefix sums of the histogram in a few operations
per candidate. Rounding is never worse than the model on average, and better for discrete data
(pixels, say) and for values that crowd around zero, so the winner then meets wider ranges and the
full one in an exact comparison: values are uniform in their bin, and the integral of the squared
rounding error over a bin has a closed form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.calibration.density import density

if TYPE_CHECKING:
    from graphopt.calibration.base import Array
    from graphopt.calibration.density import Density
    from graphopt.calibration.histogram import StreamingHistogram

_COARSE = 64
_DEPTH = 1024.0  # the narrowest candidate is this much narrower than the full range
_FINE = 9
_WIDER = (1.0, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5)


def least_squares_range(
    histogram: StreamingHistogram, *, levels: int = 256, symmetric: bool = False
) -> tuple[float, float]:
    """Return (low, high) with the smallest expected squared error.

    Args:
        histogram: of the tensor; exact zeros have no error and do not count.
        levels: integers of the format: scale = (high - low) / (levels - 1) with zero inside, or
            max(-low, high) / ((levels - 1) // 2) when symmetric.
        symmetric: whether the format has its zero in the middle.

    Raises:
        ValueError: nothing was counted.
    """
    found = density(histogram, symmetric=symmetric)
    if histogram.low == histogram.high or not found.counts.any():
        return histogram.low, histogram.high
    # In bins, so that nothing overflows, whatever the unit.
    low, high = min(histogram.low, 0.0) / found.width, max(histogram.high, 0.0) / found.width
    full = (-max(-low, high), max(-low, high)) if symmetric else (low, high)
    best = _Model(found, levels, symmetric).search(full)
    wider = [(max(best[0] * f, full[0]), min(best[1] * f, full[1])) for f in _WIDER]
    shortlist = [full, *dict.fromkeys(wider)]
    errors = [expected_error(found, bounds, levels, symmetric) for bounds in shortlist]
    low, high = (end * found.width for end in shortlist[int(np.argmin(errors))])
    # A tensor that does not reach zero keeps its own end there.
    low = histogram.low if histogram.low >= 0 else max(low, histogram.low)
    high = histogram.high if histogram.high <= 0 else min(high, histogram.high)
    return min(low, high), max(low, high)


def expected_error(
    found: Density, bounds: tuple[float, float], levels: int, symmetric: bool
) -> float:
    """Return the sum of the squared errors in squared bins, values uniform in their bins.

    With u = x / step and r(u) = u - round(u), the integral of r^2 is round(u) / 12 + r(u)^3 / 3.

    Args:
        found: the distribution.
        bounds: of the range, in bins: 1.0 is one bin above zero.
        levels: as above.
        symmetric: as above.
    """
    low, high = bounds
    half = (levels - 1) // 2
    step = high / half if symmetric else (high - low) / (levels - 1)
    smallest = -half if symmetric else -round(-low / step)
    largest = half if symmetric else smallest + levels - 1
    edges = (found.first + np.arange(len(found.counts) + 1)) / step
    nearest = np.floor(edges + 0.5)
    rounding = np.diff(nearest / 12 + (edges - nearest) ** 3 / 3) * step
    centres = (edges[:-1] + edges[1:]) / 2
    outside = centres - np.clip(centres, smallest, largest)
    clipping = outside**2 + 1 / (12 * step**2)
    return float(np.dot(found.counts, np.where(outside == 0, rounding, clipping)) * step**2)


class _Model:
    """Expected error of many ranges at once, from sums over the bins on either side."""

    def __init__(self, found: Density, levels: int, symmetric: bool) -> None:
        self._steps = (levels - 1) // 2 * 2 if symmetric else levels - 1
        self._symmetric = symmetric
        self._edges = found.first + np.arange(len(found.counts) + 1.0)
        self._total = float(found.counts.sum())
        centres = (self._edges[:-1] + self._edges[1:]) / 2
        counts = found.counts
        moments = np.stack([counts, counts * centres, counts * (centres**2 + 1 / 12)])
        self._below = np.zeros((3, len(counts) + 1))
        self._above = np.zeros((3, len(counts) + 1))
        np.cumsum(moments, axis=1, out=self._below[:, 1:])
        np.cumsum(moments[:, ::-1], axis=1, out=self._above[:, -2::-1])

    def search(self, full: tuple[float, float]) -> tuple[float, float]:
        """Return the best range inside ``full``, by finer and finer grids around the best."""
        best = self._best(full, np.geomspace(1.0, 1 / _DEPTH, _COARSE), full)
        ratio = _DEPTH ** (1 / (_COARSE - 1))
        for _ in range(2):
            best = self._best(best, np.geomspace(ratio, 1 / ratio, _FINE), full)
            ratio **= 2 / (_FINE - 1)
        return best

    def _best(
        self, around: tuple[float, float], factors: Array, full: tuple[float, float]
    ) -> tuple[float, float]:
        lows = np.maximum(around[0] * factors, full[0])
        highs = np.minimum(around[1] * factors, full[1])
        left, cut = self._beyond(self._below, lows)
        right, cut_right = self._beyond(self._above, highs)
        if not self._symmetric:  # every low with every high
            lows, left, cut = lows[:, None], left[:, None], cut[:, None]
        inside = self._total - left - right
        errors = inside * ((highs - lows) / self._steps) ** 2 / 12 + cut + cut_right
        best = np.unravel_index(int(np.argmin(errors)), errors.shape)
        return float(lows.flat[best[0]]), float(highs[best[-1]])

    def _beyond(self, sums: Array, ends: Array) -> tuple[Array, Array]:
        """Return how many values are beyond each end, and the sum of (x - end)^2 over them."""
        count, first, second = (np.interp(ends, self._edges, row) for row in sums)
        return count, np.maximum(second - 2 * ends * first + ends**2 * count, 0.0)
