"""Where zeros may stand: anywhere, N of every M, or whole blocks; and the choice by saliency."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import RecipeError

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_TEXT = re.compile(r"unstructured|block|(\d{1,4}):(\d{1,4})|(\d{1,4})x(\d{1,4})")


@dataclass(frozen=True)
class Pattern:
    """Blocks of ``rows`` outputs and ``width`` input channels, zero as a whole; or N of M.

    Args:
        width: neighbouring input channels of one tap; M for N:M.
        rows: neighbouring outputs.
        kept: N, of every ``width`` channels of one output; None where blocks are zero as a whole.
    """

    width: int = 1
    rows: int = 1
    kept: int | None = None

    @staticmethod
    def parse(text: str) -> Pattern:
        """Read "unstructured", "N:M", "block" (of 4 channels) or "RxC".

        Raises:
            RecipeError: G103, anything else, or N:M with N of 0 or not below M.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise _unknown(text)
        if text in {"unstructured", "block"}:
            return Pattern(width=4 if text == "block" else 1)
        kept, width, rows, columns = (int(g or 0) for g in found.groups())
        if kept and kept < width:
            return Pattern(width=width, kept=kept)
        if rows and columns:
            return Pattern(width=columns, rows=rows)
        raise _unknown(text)

    def share(self, sparsity: float) -> float:
        """Return the share of zeros that is meant: N:M settles it, else ``sparsity``."""
        return sparsity if self.kept is None else 1.0 - self.kept / self.width


def _unknown(text: str) -> RecipeError:
    return RecipeError(
        f"`{text}` is not a pattern",
        code="G103",
        hint='"unstructured", "2:4" (2 of every 4 stay), "block" or "8x1" (outputs x inputs)',
    )


@dataclass(frozen=True)
class Cells:
    """The features of a weight matrix, cut into the runs that a pattern counts in.

    Features are ordered tap by tap, the input channels of one tap side by side; no cell reaches
    over the end of a tap, so the last of a tap may be short.

    Args:
        features: how many.
        run: input channels of one tap.
        pattern: what is cut for.
    """

    features: int
    run: int
    pattern: Pattern

    @property
    def starts(self) -> Array:
        """First feature of each cell; int [cells], ascending."""
        taps = np.arange(0, self.features, self.run)
        within = np.arange(0, self.run, self.pattern.width)
        return (taps[:, None] + within[None, :]).reshape(-1)


def choose(saliency: Array, starts: Array, pattern: Pattern, zeros: int, by_output: bool) -> Array:
    """Return which weights stay: those of high saliency that the pattern allows.

    Args:
        saliency: float, not negative, [groups, outputs, features].
        starts: first feature of each cell.
        pattern: where zeros may stand.
        zeros: weights to make 0 at most; N:M does not need it. Blocks go while they fit.
        by_output: take the same share from every output (row of blocks), not from all together.

    Returns:
        bool of the same shape; ties go by position.
    """
    if pattern.kept is not None:
        return _best_of_each(saliency, starts, pattern.kept)
    wide = _sizes(starts, saliency.shape[2])
    lines = np.arange(0, saliency.shape[1], pattern.rows)
    high = _sizes(lines, saliency.shape[1])
    sums = np.add.reduceat(np.add.reduceat(saliency, starts, axis=2), lines, axis=1)
    sizes = np.broadcast_to(np.outer(high, wide), sums.shape)
    scores = sums / sizes
    if by_output:
        each = (sums.shape[0] * sums.shape[1], sums.shape[2])
        share = zeros / saliency.size * sizes.reshape(each).sum(axis=1)
        sure = _highest(scores.reshape(each), sizes.reshape(each), np.floor(share + 1e-9))
        # What does not divide evenly is made up from all of them.
        scores = np.where(sure.reshape(sums.shape), scores, -1.0)
    stays = _highest(scores.reshape(1, -1), sizes.reshape(1, -1), np.array([zeros]))
    blocks = stays.reshape(sums.shape)
    return np.repeat(np.repeat(blocks, high, axis=1), wide, axis=2)


def _sizes(starts: Array, total: int) -> Array:
    return np.diff(np.append(starts, total))


def _highest(scores: Array, sizes: Array, zeros: Array) -> Array:
    """Return which blocks of each line stay when so many of its weights go, lowest first."""
    order = np.argsort(scores, axis=1, kind="stable")
    gone = np.cumsum(np.take_along_axis(sizes, order, axis=1), axis=1)
    stays = np.empty(scores.shape, dtype=bool)
    np.put_along_axis(stays, order, gone > zeros[:, None], axis=1)
    return stays


def _best_of_each(saliency: Array, starts: Array, kept: int) -> Array:
    stays = np.zeros(saliency.shape, dtype=bool)
    for start, stop in zip(starts, np.append(starts[1:], saliency.shape[2]), strict=True):
        order = np.argsort(-saliency[:, :, start:stop], axis=2, kind="stable")
        np.put_along_axis(stays[:, :, start:stop], order[:, :, :kept], values=True, axis=2)
    return stays


def follows(weight: Array, starts: Array, pattern: Pattern, zeros: int) -> bool:
    """Whether a weight, [groups, outputs, features], has at least these zeros in the pattern."""
    present = (weight != 0).astype(np.float64)
    stays = choose(present, starts, pattern, zeros, by_output=False)
    return not (present.astype(bool) & ~stays).any()
