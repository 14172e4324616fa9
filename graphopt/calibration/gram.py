"""The Gram matrix of a stream of rows, for least squares and second-order weight rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from graphopt.calibration.base import Array

# Elements that are held as float64 at once.
_BLOCK = 1 << 20


class Gram:
    """X^T X, the number of rows and their mean, in float64; memory is features^2.

    X stacks the rows of all updates. The sum is over rows, not the mean: divide by ``count`` for
    the second moment. Before the first row the arrays are empty.
    """

    def __init__(self) -> None:
        self._matrix = np.zeros((0, 0))
        self._sum = np.zeros(0)
        self._count = 0

    def update(self, rows: Array) -> None:
        """Take in rows.

        Args:
            rows: float or integer [..., features]; all axes but the last are rows.

        Raises:
            ValueError: a scalar, or another number of features than before.
        """
        if rows.ndim == 0:
            raise ValueError("a scalar has no features")
        features = rows.shape[-1]
        if rows.size == 0:
            return
        if self._count == 0:
            self._matrix, self._sum = np.zeros((features, features)), np.zeros(features)
        if features != self._sum.size:
            raise ValueError(f"{features} features after {self._sum.size}")
        flat = rows.reshape(-1, features)
        step = max(1, _BLOCK // features)
        for start in range(0, len(flat), step):
            block = flat[start : start + step].astype(np.float64)
            self._matrix += block.T @ block
            self._sum += block.sum(axis=0)
        self._count += len(flat)

    @property
    def matrix(self) -> Array:
        """X^T X; float64 [features, features], symmetric."""
        return self._matrix

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._count

    @property
    def mean(self) -> Array:
        """Mean row; float64 [features]."""
        return np.asarray(self._sum / max(self._count, 1))
