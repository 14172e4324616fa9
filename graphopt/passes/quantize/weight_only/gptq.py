"""GPTQ: round one input feature after the other, and let the others make up for the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.quantize.weight_only.blocks import Blocks, in_blocks, inverses
from graphopt.passes.quantize.weight_only.search_scales import best_scales

if TYPE_CHECKING:
    from graphopt.passes.quantize.weight_only.blocks import Array, Grid

DAMPING = 0.01
"""Share of the mean of the Hessian's diagonal that is added to it."""
_PANEL = 128


def gptq(rows: Array, grid: Grid, curvature: Curvature, *, ordered: bool = False) -> Blocks:
    """Quantize a matrix so that its products change little.

    Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: Accurate Post-Training Quantization for
    Generative Pre-trained Transformers" (ICLR 2023), algorithm 1: with U the upper Cholesky factor
    of the inverse Hessian, the error of feature j, (w_j - q_j) / U_jj, is taken off the features
    after it in proportion to U_j. Scales come from a search that weighs each feature by the
    Hessian's diagonal.

    Args:
        rows: float [outputs, inputs].
        grid: the codes.
        curvature: of the inputs.
        ordered: take the features by falling diagonal ("act-order"); scales are then fixed before
            the first feature, because blocks stay neighbours. Otherwise each block's scales are
            searched when its first feature comes, on the weights as corrected until then.
    """
    order, upper = curvature.factor(ordered)
    importance = in_blocks(curvature.diagonal[None, :], grid)
    run = _Run(np.array(rows, np.float32), grid, order, upper, importance)
    return run.run(searched_ahead=ordered)


class Curvature:
    """The Hessian of a matrix's squared output error, damped, and what follows from it.

    The matrix is H = X^T X / rows plus a share of its mean diagonal; features that were always 0
    are thereby kept as they are.

    Args:
        gram: float64 [inputs, inputs], X^T X or any multiple of it.
        damping: share of the mean diagonal that is added to the diagonal.
    """

    def __init__(self, gram: Array, damping: float = DAMPING) -> None:
        found = np.array(gram, np.float64)
        mean = float(np.diag(found).mean()) if found.size else 0.0
        found[np.diag_indices_from(found)] += damping * mean if mean > 0 else 1.0
        self.matrix = found
        self.diagonal = np.diag(found).astype(np.float32)
        self._factors: dict[bool, tuple[Array, Array]] = {}

    def factor(self, ordered: bool) -> tuple[Array, Array]:
        """Return the order of features and U, float32 upper triangular, U^T U = H^-1 in it."""
        if ordered not in self._factors:
            count = len(self.diagonal)
            order = np.argsort(-self.diagonal, kind="stable") if ordered else np.arange(count)
            backwards = order[::-1]
            # With rows and columns reversed, the inverse's factor is the inverse of the factor.
            lower = np.linalg.cholesky(self.matrix[np.ix_(backwards, backwards)])
            upper = np.linalg.inv(lower)[::-1, ::-1]
            self._factors[ordered] = order, np.triu(upper).astype(np.float32)
        return self._factors[ordered]

    def error(self, difference: Array) -> float:
        """Return tr(D H D^T): the expected squared error of the outputs, summed over them."""
        wide = difference.astype(np.float32)
        return float(np.einsum("nk,nk->", wide @ self.matrix.astype(np.float32), wide))


class _Run:
    """One matrix on its way through the features."""

    def __init__(
        self, weights: Array, grid: Grid, order: Array, upper: Array, importance: Array
    ) -> None:
        self.weights = weights[:, order]
        self.grid = grid
        self.order = order
        self.upper = upper
        self.importance = importance
        blocks = (len(weights), importance.shape[1])
        self.scales = np.zeros(blocks, np.float32)
        self.inverse = np.zeros(blocks, np.float32)
        self.zero_points = np.zeros(blocks, np.float32)
        self.codes = np.zeros((len(weights), importance.shape[1] * grid.block_size), np.uint8)

    def run(self, searched_ahead: bool) -> Blocks:
        """Round every feature and return the codes in the order of the matrix."""
        features = len(self.order)
        if searched_ahead:
            plain = np.empty_like(self.weights)
            plain[:, self.order] = self.weights
            found = best_scales(in_blocks(plain, self.grid), self.grid, self.importance)
            self._keep(slice(None), *found)
        for start in range(0, features, _PANEL):
            end = min(start + _PANEL, features)
            errors = self._panel(start, end, searched_ahead)
            self.weights[:, end:] -= errors @ self.upper[start:end, end:]
        codes = self.codes.reshape(len(self.codes), -1, self.grid.block_size)
        self._fill_padding(codes, features)
        return Blocks(codes, self.scales, self.zero_points)

    def _panel(self, start: int, end: int, searched_ahead: bool) -> Array:
        """Round the features of one panel; return their errors, scaled for those after it."""
        errors = np.zeros((len(self.weights), end - start), np.float32)
        size = self.grid.block_size
        for position in range(start, end):
            feature = int(self.order[position])
            block = feature // size
            if not searched_ahead and position % size == 0:
                self._search(position, start, end, errors)
            column = self.weights[:, position]
            scale, inverse = self.scales[:, block], self.inverse[:, block]
            zero = self.zero_points[:, block]
            codes = np.clip(np.rint(column * inverse + zero), 0, self.grid.top)
            self.codes[:, feature] = codes
            error = (column - (codes - zero) * scale) / self.upper[position, position]
            errors[:, position - start] = error
            ahead = slice(position + 1, end)
            self.weights[:, ahead] -= error[:, None] * self.upper[position, ahead]
        return errors

    def _search(self, position: int, start: int, end: int, errors: Array) -> None:
        """Search the scales of the block that starts at ``position``, on its weights of now."""
        stop = min(position + self.grid.block_size, len(self.order))
        weights = self.weights[:, position:stop].copy()
        if stop > end:  # what lies beyond the panel has not been corrected yet
            done = slice(start, position)
            correction = errors[:, : position - start] @ self.upper[done, end:stop]
            weights[:, end - position :] -= correction
        block = position // self.grid.block_size
        found = best_scales(
            in_blocks(weights, self.grid), self.grid, self.importance[:, block : block + 1]
        )
        self._keep(slice(block, block + 1), *found)

    def _keep(self, blocks: slice, scales: Array, zero_points: Array) -> None:
        self.scales[:, blocks] = scales
        self.inverse[:, blocks] = inverses(scales)
        self.zero_points[:, blocks] = zero_points

    def _fill_padding(self, codes: Array, features: int) -> None:
        """Let what lies beyond the features stand for 0."""
        spare = codes.shape[1] * codes.shape[2] - features
        if spare:
            codes[:, -1, -spare:] = np.rint(self.zero_points[:, -1:])
