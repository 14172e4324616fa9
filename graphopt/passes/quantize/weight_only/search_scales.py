"""Search scales and zero points for the smallest squared error of each block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.quantize.weight_only.blocks import (
    Blocks,
    encode,
    extent,
    in_blocks,
    inverses,
    settled,
)

if TYPE_CHECKING:
    from graphopt.passes.quantize.weight_only.blocks import Array, Grid

FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 1.05)
"""Multiples of the scale that clips nothing; below 1 the extremes are clipped."""
_NEIGHBOURS = (-1.0, 1.0)
_FEW_CODES = 3
"""Largest code up to which all zero points are tried."""
_ROUNDS = 3


def search_scales(rows: Array, grid: Grid, importance: Array | None = None) -> Blocks:
    """Quantize a matrix with the scales that leave the smallest error.

    For every block sum importance * (weight - scale * (code - zero point))^2 is minimised: the
    scales of ``FACTORS`` are tried, with the zero point that each suggests and those beside it (all
    four with 2 bits); for fixed codes c the best scale is sum(i w c) / sum(i c^2), after which
    codes and scale are improved in turns. Zero points that may be fractions are fitted together
    with the scale. The idea of the k-quants of llama.cpp (``make_qkx2_quants``), without their
    second level of scales.

    Args:
        rows: float [outputs, inputs].
        grid: the codes.
        importance: what an error of each input feature weighs, 0 or more, such as its mean square;
            float [inputs]. All the same when None.
    """
    weights = in_blocks(rows, grid)
    per_feature = None if importance is None else in_blocks(importance[None, :], grid)
    scales, zero_points = best_scales(weights, grid, per_feature)
    return encode(weights, scales, zero_points, grid)


def best_scales(weights: Array, grid: Grid, importance: Array | None = None) -> tuple[Array, Array]:
    """Return scale and zero point of each block, float32 [rows, blocks].

    Args:
        weights: float32 [rows, blocks, block size].
        grid: the codes.
        importance: float32, broadcastable to ``weights``; 0 or more.
    """
    search = _Search(weights, grid, importance)
    base, middle = extent(weights, grid)
    low = -np.minimum(weights.min(axis=-1), 0)
    for factor in FACTORS:
        scales = base * np.float32(factor)
        if grid.symmetric:
            search.offer(scales, middle)
            search.offer(-scales, middle)
            continue
        span = inverses(scales)
        # Both ends are clipped by the same amount.
        shift = (1 - factor) * grid.top / 2 / max(factor, 1e-6)
        search.offer(scales, settled(low * span - shift, grid))
    if not grid.symmetric and not grid.fractional:
        if grid.top <= _FEW_CODES:
            _offer_all(search, base, grid)
        found, zero_points = search.scales, search.zero_points
        for step in _NEIGHBOURS:
            search.offer(found, np.clip(zero_points + step, 0, grid.top))
    for _ in range(_ROUNDS):
        search.offer(search.scales, search.zero_points)
    return search.scales, search.zero_points


def _offer_all(search: _Search, base: Array, grid: Grid) -> None:
    """Try every factor with every zero point; with four codes the ends say little about both."""
    for factor in FACTORS:
        for zero in range(grid.top + 1):
            search.offer(base * np.float32(factor), np.full_like(base, zero))


class _Search:
    """The best scales so far, and what they leave."""

    def __init__(self, weights: Array, grid: Grid, importance: Array | None) -> None:
        self.weights = weights
        self.grid = grid
        self.importance = importance
        self.weighted = weights if importance is None else weights * importance
        shape = weights.shape[:-1]
        self.gains = np.full(shape, -1.0, np.float32)
        self.scales = np.zeros(shape, np.float32)
        self.zero_points = np.full(shape, float(grid.middle), np.float32)

    def offer(self, scales: Array, zero_points: Array) -> None:
        """Round with these, fit the scale to the codes, and keep both where that is better.

        With the fitted scale the error is sum(i w^2) - gain, gain = sum(i w c)^2 / sum(i c^2).
        """
        codes = self.weights * inverses(scales)[..., None]
        codes += zero_points[..., None]
        np.rint(codes, out=codes)
        np.clip(codes, 0, self.grid.top, out=codes)
        if self.grid.fractional and not self.grid.symmetric:
            zero_points = self._fitted_zero(codes, zero_points)
        codes -= zero_points[..., None]
        match = np.einsum("nbk,nbk->nb", self.weighted, codes)
        fitted = match * inverses(self._weighed(codes, codes))
        gains = match * fitted
        better = gains > self.gains
        self.gains = np.where(better, gains, self.gains)
        self.scales = np.where(better, fitted, self.scales)
        self.zero_points = np.where(better, zero_points, self.zero_points)

    def _weighed(self, a: Array, b: Array) -> Array:
        """Return sum(i a b) of each block."""
        first = a if self.importance is None else a * self.importance
        return np.asarray(np.einsum("nbk,nbk->nb", first, b))

    def _fitted_zero(self, codes: Array, zero_points: Array) -> Array:
        """Return the zero point of the best line through the points (code, weight)."""
        ones = np.ones_like(codes)
        count, codes_sum = self._weighed(ones, ones), self._weighed(codes, ones)
        weights_sum = self.weighted.sum(axis=-1)
        match = np.einsum("nbk,nbk->nb", self.weighted, codes)
        slope = count * match - codes_sum * weights_sum
        # weight = s (code - z): z = mean(code) - mean(weight) / s with s = slope / spread.
        spread = count * self._weighed(codes, codes) - codes_sum * codes_sum
        found = (codes_sum - weights_sum * spread * inverses(slope)) * inverses(count)
        usable = (slope != 0) & (found >= 0) & (found <= self.grid.top)
        return np.where(usable, found, zero_points).astype(np.float32)
