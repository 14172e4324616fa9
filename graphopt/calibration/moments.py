"""Moments and ranges of every channel of a tensor, from a stream of batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.calibration.base import Array

# Elements that are held as float64 at once: a block and its powers stay within the cache.
_BLOCK = 1 << 16


class ChannelMoments:
    """Count, mean, variance, extremes and kurtosis along one axis, in memory of one row.

    Batches are centred on their own mean and merged pairwise, so that a large offset costs no
    digits: for parts a and b with d = mean_b - mean_a and n = n_a + n_b,

        M2 = M2_a + M2_b + d^2 n_a n_b / n
        M3 = M3_a + M3_b + d^3 n_a n_b (n_a - n_b) / n^2 + 3 d (n_a M2_b - n_b M2_a) / n
        M4 = M4_a + M4_b + d^4 n_a n_b (n_a^2 - n_a n_b + n_b^2) / n^3
             + 6 d^2 (n_a^2 M2_b + n_b^2 M2_a) / n^2 + 4 d (n_a M3_b - n_b M3_a) / n

    (P. Pébay, Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
    statistical moments, SAND2008-6212, section 2). Before the first value every array is empty; NaN
    and infinity spread to the results of their channel.

    Args:
        axis: the axis of the channels in every batch, negative from the end.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self._count = 0
        self._mean = np.zeros(0)
        self._powers = np.zeros((3, 0))  # sums of (x - mean)^2, ^3 and ^4
        self._low = np.zeros(0)
        self._high = np.zeros(0)

    def update(self, values: Array) -> None:
        """Take in one batch.

        Args:
            values: float or integer, any shape that has the axis; the other axes may vary.

        Raises:
            ValueError: the axis does not exist, or has another size than before.
        """
        rows = np.moveaxis(values, self.axis, 0)
        rows = rows.reshape(rows.shape[0], -1)
        if rows.size == 0:
            return
        if self._count == 0:
            self._start(rows.shape[0])
        if rows.shape[0] != self._mean.size:
            raise ValueError(f"{rows.shape[0]} channels after {self._mean.size}")
        for block in _blocks(rows):
            self._merge(block)

    @property
    def count(self) -> int:
        """Number of values of each channel."""
        return self._count

    @property
    def mean(self) -> Array:
        """Mean of each channel; float64 [channels]."""
        return self._mean.copy()

    @property
    def variance(self) -> Array:
        """Mean of (x - mean)^2 of each channel; float64 [channels]."""
        return np.asarray(self._powers[0] / max(self._count, 1))

    @property
    def low(self) -> Array:
        """Smallest value of each channel; float64 [channels]."""
        return self._low.copy()

    @property
    def high(self) -> Array:
        """Largest value of each channel; float64 [channels]."""
        return self._high.copy()

    @property
    def peak(self) -> Array:
        """Largest magnitude of each channel; float64 [channels]."""
        return np.maximum(np.abs(self._low), np.abs(self._high))

    @property
    def kurtosis(self) -> Array:
        """Mean of ((x - mean) / deviation)^4: 3 for a normal distribution; float64 [channels].

        0 for a constant channel, which has no deviation.
        """
        result, squared = np.zeros_like(self._mean), self._powers[0] ** 2
        np.divide(self._count * self._powers[2], squared, out=result, where=squared != 0)
        return result

    def _start(self, channels: int) -> None:
        self._mean = np.zeros(channels)
        self._powers = np.zeros((3, channels))
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)

    def _merge(self, block: Array) -> None:
        """Merge float64 [channels, n]; the formulas of the class with a = so far, b = block."""
        a, b = self._count, block.shape[1]
        n = a + b
        np.minimum(self._low, block.min(axis=1), out=self._low)
        np.maximum(self._high, block.max(axis=1), out=self._high)
        mean = block.mean(axis=1)
        centred = block - mean[:, None]
        squared = centred * centred
        b2, b4 = squared.sum(axis=1), np.einsum("ij,ij->i", squared, squared)
        b3 = np.einsum("ij,ij->i", squared, centred)
        a2, a3, a4 = self._powers
        d = mean - self._mean
        fa, fb = a / n, b / n  # shares, so that no product of counts overflows
        m4 = a4 + b4 + d**4 * a * fb * (fa * fa - fa * fb + fb * fb)
        m4 += 6 * d**2 * (fa * fa * b2 + fb * fb * a2) + 4 * d * (fa * b3 - fb * a3)
        m3 = a3 + b3 + d**3 * a * fb * (fa - fb) + 3 * d * (fa * b2 - fb * a2)
        self._powers = np.stack([a2 + b2 + d**2 * a * fb, m3, m4])
        self._mean = self._mean + d * fb
        self._count = n


def _blocks(rows: Array) -> Iterator[Array]:
    """Yield float64 parts of [channels, n] along the second axis."""
    step = max(1, _BLOCK // rows.shape[0])
    for start in range(0, rows.shape[1], step):
        yield rows[:, start : start + step].astype(np.float64)
