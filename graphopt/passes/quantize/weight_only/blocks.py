"""Blockwise integer codes of a matrix, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

CHUNK_ELEMENTS = 1 << 18
"""Elements that are worked on at once: several such arrays fit into a second-level cache."""


@dataclass(frozen=True)
class Grid:
    """Which integers a block of weights may become.

    A block is ``block_size`` neighbours along the input features of one output feature; it has a
    scale, and a zero point between 0 and ``top``: weight = scale * (code - zero point).

    Args:
        bits: width of a code: 2, 4 or 8.
        block_size: weights that share a scale.
        symmetric: the zero point is always ``middle``, and need not be stored.
        fractional: the zero point need not be an integer; only MatMulNBits takes such.
    """

    bits: int
    block_size: int
    symmetric: bool = False
    fractional: bool = False

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The zero point of a symmetric block."""
        return 1 << (self.bits - 1)

    def count(self, features: int) -> int:
        """Return how many blocks hold that many features; the last may be padded."""
        return -(-features // self.block_size)


@dataclass(frozen=True)
class Blocks:
    """A quantized matrix, one row per output feature.

    Args:
        codes: uint8 [rows, blocks, block size]; what lies beyond the features is padding.
        scales: float32 [rows, blocks].
        zero_points: float32 [rows, blocks]; integers, unless the grid says otherwise.
    """

    codes: Array
    scales: Array
    zero_points: Array

    def dequantized(self, features: int) -> Array:
        """Return the weights that the codes stand for; float32 [rows, features]."""
        signed = self.codes.astype(np.float32)
        signed -= self.zero_points[..., None]
        signed *= self.scales[..., None]
        return signed.reshape(len(signed), -1)[:, :features]

    def __getitem__(self, rows: slice) -> Blocks:
        return Blocks(self.codes[rows], self.scales[rows], self.zero_points[rows])


def empty(rows: int, features: int, grid: Grid) -> Blocks:
    """Return room for a quantized matrix."""
    count = grid.count(features)
    return Blocks(
        np.zeros((rows, count, grid.block_size), np.uint8),
        np.zeros((rows, count), np.float32),
        np.zeros((rows, count), np.float32),
    )


def in_blocks(rows: Array, grid: Grid) -> Array:
    """Return a matrix as float32 [rows, blocks, block size], padded with zeros."""
    count, features = rows.shape
    size = grid.count(features) * grid.block_size
    if size == features:
        return np.ascontiguousarray(rows, np.float32).reshape(count, -1, grid.block_size)
    padded = np.zeros((count, size), np.float32)
    padded[:, :features] = rows
    return padded.reshape(count, -1, grid.block_size)


def encode(weights: Array, scales: Array, zero_points: Array, grid: Grid) -> Blocks:
    """Round weights in blocks to the codes of the given scales and zero points.

    Args:
        weights: float32 [rows, blocks, block size].
        scales: float32 [rows, blocks]; 0 makes a block of zeros.
        zero_points: float32 [rows, blocks] between 0 and ``grid.top``.
        grid: the codes.
    """
    inverse = inverses(scales)
    codes = weights * inverse[..., None]
    codes += zero_points[..., None]
    np.rint(codes, out=codes)
    np.clip(codes, 0, grid.top, out=codes)
    return Blocks(codes.astype(np.uint8), scales, zero_points)


def inverses(scales: Array) -> Array:
    """Return 1 / scale, and 0 for the scale 0."""
    safe = np.where(scales == 0, 1, scales)
    return np.asarray(np.where(scales == 0, 0, 1 / safe), np.float32)


def extent(weights: Array, grid: Grid) -> tuple[Array, Array]:
    """Return scales and zero points with which no weight of a block is clipped.

    Asymmetric: scale = (max - min) / top over the block and 0. Symmetric: the weight of largest
    magnitude gets the outermost code, so the scale has the opposite of its sign; weights of the
    other sign may be clipped by half a step.
    """
    low = np.minimum(weights.min(axis=-1), 0)
    high = np.maximum(weights.max(axis=-1), 0)
    if grid.symmetric:
        extreme = np.where(-low > high, low, high)
        scales = (extreme / -grid.middle).astype(np.float32)
        return scales, np.full(scales.shape, grid.middle, np.float32)
    scales = ((high - low) / grid.top).astype(np.float32)
    zero_points = settled(-low * inverses(scales), grid)
    return scales, zero_points


def settled(zero_points: Array, grid: Grid) -> Array:
    """Return the nearest zero points that the grid has, float32."""
    if not grid.fractional:
        zero_points = np.rint(zero_points)
    return np.clip(zero_points, 0, grid.top).astype(np.float32)
