"""Improve codes and scales in turns, for the error of the products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.quantize.weight_only.blocks import Blocks, inverses

if TYPE_CHECKING:
    from graphopt.passes.quantize.weight_only.blocks import Array, Grid


def refine(rows: Array, blocks: Blocks, grid: Grid, hessian: Array, rounds: int) -> Blocks:
    """Return codes and scales with no larger error tr((W - Q) H (W - Q)^T), up to rounding.

    One round fits the scale of every block to its codes in closed form, the other blocks fixed,
    and then moves every code to its best value, the others fixed. Coordinate descent on the
    objective of GPTQ, from GPTQ's solution: Behdin, Acharya, Gupta, Song, Zhu, Keerthi and
    Mazumder, "QuantEase: Optimization-based Quantization for Language Models" (2023), with the
    scales as further coordinates.

    Args:
        rows: float [outputs, inputs]: W.
        blocks: where to start.
        grid: the codes.
        hessian: float64 [inputs, inputs]: H.
        rounds: how often both steps are taken.
    """
    descent = _Descent(rows, blocks, grid, hessian)
    for _ in range(rounds):
        descent.fit_scales()
        descent.move_codes()
    descent.fit_scales()
    return descent.result()


class _Descent:
    """Codes on the way down; ``pull`` is half the gradient of the error, (Q - W) H."""

    def __init__(self, rows: Array, blocks: Blocks, grid: Grid, hessian: Array) -> None:
        self.grid = grid
        self.features = rows.shape[1]
        self.hessian = np.asarray(hessian, np.float32)
        self.shape = blocks.codes.shape
        self.zero_points = blocks.zero_points
        signed = blocks.codes.astype(np.float32) - self.zero_points[..., None]
        self.signed = signed.reshape(len(rows), -1)
        self.scales = blocks.scales.copy()
        self.pull = (blocks.dequantized(self.features) - rows).astype(np.float32) @ self.hessian

    def _columns(self) -> list[tuple[int, int, int]]:
        size = self.grid.block_size
        count = self.shape[1]
        return [(b, b * size, min((b + 1) * size, self.features)) for b in range(count)]

    def fit_scales(self) -> None:
        """Give every block, in turn, the scale that is best for its codes."""
        for block, start, stop in self._columns():
            codes = self.signed[:, start:stop]
            power = np.einsum("nk,nk->n", codes @ self.hessian[start:stop, start:stop], codes)
            slope = np.einsum("nk,nk->n", self.pull[:, start:stop], codes)
            step = -slope * inverses(power)
            self.scales[:, block] += step
            self.pull += (step[:, None] * codes) @ self.hessian[start:stop]

    def move_codes(self) -> None:
        """Give every code, in turn, its best value."""
        for block, start, stop in self._columns():
            moved = self._move_block(block, start, stop)
            if stop < self.features:
                self.pull[:, stop:] += moved @ self.hessian[start:stop, stop:]
            self.pull[:, :start] += moved @ self.hessian[start:stop, :start]

    def _move_block(self, block: int, start: int, stop: int) -> Array:
        """Move the codes of one block; return by how much the weights changed."""
        moved = np.zeros((len(self.signed), stop - start), np.float32)
        scale = self.scales[:, block]
        inverse = inverses(scale)
        zero = self.zero_points[:, block]
        for column in range(start, stop):
            curvature = self.hessian[column, column]
            if curvature <= 0:
                continue
            old = self.signed[:, column]
            new = np.rint(old - self.pull[:, column] / curvature * inverse + zero)
            new = np.clip(new, 0, self.grid.top) - zero
            change = (new - old) * scale
            self.signed[:, column] = new
            moved[:, column - start] = change
            self.pull[:, start:stop] += change[:, None] * self.hessian[column, start:stop]
        return moved

    def result(self) -> Blocks:
        """Return what was reached."""
        signed = self.signed.reshape(self.shape)
        codes = np.rint(signed + self.zero_points[..., None])
        return Blocks(codes.astype(np.uint8), self.scales, self.zero_points)
