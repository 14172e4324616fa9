"""Half-quadratic quantization: zero points for a norm that forgives outliers."""

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

NORM = 0.7
"""Exponent p of the error that is minimised, sum |error|^p."""
_BETA = 10.0
_GROWTH = 1.01
_ROUNDS = 20


def hqq(rows: Array, grid: Grid) -> Blocks:
    """Quantize a matrix with half-quadratic quantization.

    Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023): with
    the scale of the range, alternate between the shrunk error e = shrink(w - w_q) and the zero
    point mean(code - (w - e) / scale). Where the grid has integer zero points it is rounded at the
    end. Blocks that this leaves worse in the same norm keep the zero point of their range.

    Args:
        rows: float [outputs, inputs].
        grid: the codes; symmetric ones have no zero point to move, and are rounded to nearest.
    """
    weights = in_blocks(rows, grid)
    scales, first = extent(weights, grid)
    start = encode(weights, scales, first, grid)
    if grid.symmetric:
        return start
    moved = encode(weights, scales, _moved(weights, scales, first, grid), grid)
    worse = _norm(weights, moved) >= _norm(weights, start)
    return Blocks(
        np.where(worse[..., None], start.codes, moved.codes),
        scales,
        np.where(worse, start.zero_points, moved.zero_points),
    )


def _moved(weights: Array, scales: Array, zero_points: Array, grid: Grid) -> Array:
    inverse = inverses(scales)[..., None]
    step = scales[..., None]
    scaled = weights * inverse
    zero, beta = zero_points[..., None], _BETA
    for _ in range(_ROUNDS):
        codes = np.clip(np.rint(scaled + zero), 0, grid.top)
        error = _shrunk(weights - (codes - zero) * step, beta)
        zero = (codes - (weights - error) * inverse).mean(axis=-1, keepdims=True)
        beta *= _GROWTH
    return settled(zero[..., 0], grid)


def _shrunk(error: Array, beta: float) -> Array:
    """Return the generalised soft threshold that belongs to the norm."""
    size = np.abs(error)
    kept = np.maximum(size - (size + 1e-8) ** (NORM - 1) / beta, 0)
    return np.asarray(np.copysign(kept, error))


def _norm(weights: Array, blocks: Blocks) -> Array:
    found = (blocks.codes.astype(np.float32) - blocks.zero_points[..., None]) * blocks.scales[
        ..., None
    ]
    return np.asarray((np.abs(weights - found) ** NORM).sum(axis=-1))
