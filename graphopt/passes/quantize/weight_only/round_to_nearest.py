"""Round to nearest: the range of each block, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.passes.quantize.weight_only.blocks import Blocks, encode, extent, in_blocks

if TYPE_CHECKING:
    from graphopt.passes.quantize.weight_only.blocks import Array, Grid


def round_to_nearest(rows: Array, grid: Grid) -> Blocks:
    """Quantize a matrix, float [outputs, inputs], with the range of each block."""
    weights = in_blocks(rows, grid)
    scales, zero_points = extent(weights, grid)
    return encode(weights, scales, zero_points, grid)
