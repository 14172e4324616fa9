"""Optimal brain surgeon, one input feature after the other: the rest makes up for each zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.sparsity.patterns import choose

if TYPE_CHECKING:
    from graphopt.passes.prune.sparsity.patterns import Pattern

    Array = np.ndarray[Any, Any]

_PANEL = 128
"""Features whose zeros are chosen at once, and whose errors are passed on lazily."""


def inverse_factor(second: Array) -> Array:
    """Return U, upper triangular with U^T U = H^-1; float64 [features, features].

    Args:
        second: H, symmetric and positive definite.
    """
    # With rows and columns reversed, the inverse's factor is the inverse of the factor.
    lower = np.linalg.cholesky(second[::-1, ::-1])
    return np.triu(np.linalg.inv(lower)[::-1, ::-1])


def compensate(weight: Array, keep: Array, second: Array) -> Array:
    """Return weights after the same compensation for zeros that are given.

    Args:
        weight: float [outputs, features].
        keep: bool of the same shape; False becomes 0.
        second: as for ``obs``.
    """
    run = _Run(weight, inverse_factor(second), np.arange(weight.shape[1]), None, np.zeros(0))
    run.keep = keep.copy()
    return run.run()[1]


def obs(
    weight: Array, second: Array, starts: Array, pattern: Pattern, zeros: int
) -> tuple[Array, Array]:
    """Return which weights stay, and all weights after compensation.

    Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot"
    (ICML 2023), algorithm 1. For feature j the error of zero is w_j^2 / U_jj^2, given that the
    features before it are settled; w_j / U_jj times U_j is taken off the features after it. Zeros
    are chosen for 128 features at a time, N:M when its M features come up. Unlike there, panels do
    not get equal shares: in a convolution, outer taps matter less. How many zeros each gets comes
    from a first choice among all features by w_j^2 / [H^-1]_jj.

    Args:
        weight: float [outputs, features].
        second: H = E[x x^T], positive definite, float64 [features, features].
        starts: first feature of each cell of the pattern.
        pattern: where zeros may stand.
        zeros: how many weights become 0, at most; N:M does not need it.

    Returns:
        bool and float64, each [outputs, features]; the latter is 0 where the former is False.
    """
    upper = inverse_factor(second)
    saliency = np.square(weight) / np.square(upper).sum(axis=0)
    first = choose(saliency[None], starts, pattern, zeros, by_output=False)[0]
    return _Run(weight, upper, starts, pattern, np.cumsum((~first).sum(axis=0))).run()


class _Run:
    """One matrix on its way through the features."""

    def __init__(
        self,
        weight: Array,
        upper: Array,
        starts: Array,
        pattern: Pattern | None,
        planned: Array,
    ) -> None:
        self.weight = weight.astype(np.float64)
        self.upper = upper
        self.starts = starts
        self.pattern = pattern
        self.planned = planned
        self.keep = np.ones(weight.shape, dtype=bool)
        self.gone = 0

    def run(self) -> tuple[Array, Array]:
        """Take the panels in order."""
        features = self.weight.shape[1]
        for start, end in self._panels(features):
            errors = self._panel(start, end)
            self.weight[:, end:] -= errors @ self.upper[start:end, end:]
        return self.keep, np.where(self.keep, self.weight, 0.0)

    def _panels(self, features: int) -> list[tuple[int, int]]:
        """Return ranges of whole cells, of about the size of a panel."""
        edges = [0]
        for start in self.starts[1:]:
            if start - edges[-1] >= _PANEL:
                edges.append(int(start))
        return list(zip(edges, [*edges[1:], features], strict=True)) if features else []

    def _panel(self, start: int, end: int) -> Array:
        """Settle the features of one panel; return their errors, scaled for those after it."""
        errors = np.zeros((len(self.weight), end - start))
        cells = self.starts[(self.starts >= start) & (self.starts < end)]
        pattern = self.pattern
        if pattern is not None and pattern.kept is None:
            self._choose(pattern, start, end, cells)
        stops = dict(zip(cells, [*cells[1:], end], strict=True))
        for feature in range(start, end):
            if pattern is not None and pattern.kept is not None and feature in stops:
                self._choose(pattern, feature, int(stops[feature]), np.array([feature]))
            column = np.where(self.keep[:, feature], 0.0, self.weight[:, feature])
            error = column / self.upper[feature, feature]
            errors[:, feature - start] = error
            ahead = slice(feature + 1, end)
            self.weight[:, ahead] -= error[:, None] * self.upper[feature, ahead]
        return errors

    def _choose(self, pattern: Pattern, start: int, end: int, cells: Array) -> None:
        """Choose zeros among the features of a range, on the weights as they are now."""
        part = self.weight[None, :, start:end]
        saliency = np.square(part / np.diagonal(self.upper)[start:end])
        # Counted from the first feature on: blocks that did not fit go with the next panel.
        zeros = int(self.planned[end - 1]) - self.gone
        stays = choose(saliency, cells - start, pattern, max(zeros, 0), by_output=False)[0]
        self.keep[:, start:end] = stays
        self.gone += int((~stays).sum())
