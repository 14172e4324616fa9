"""Cycles per multiply-accumulate by kernel class, shared among boards: a maximum a posteriori fit.

cycles(board, network) = scale(board) * speed(stack, variant) * sum over k of
    c_k * exp(g_k + s_k(stack) + b_k(board)) * work_k(network)

where work_k is what the roofline cost model counts in class k: products of a kind of convolution,
elements of operators without products, or kernels to start. Every deviation is a normal variable
with mean 0 on a log scale; its spread says how alike things are thought to be before any row is
seen. So a board of which little is known takes its structure from boards with the same software,
and these from everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Array = np.ndarray[Any, Any]

CLASSES = ("conv", "pointwise", "unaligned", "depthwise", "gemv", "elementwise", "dispatch")
"""As in the efficiencies of a target; ``dispatch`` counts kernels."""

PRIOR = dict(zip(CLASSES, (1.2, 1.2, 3.0, 4.0, 1.8, 1.0, 2000.0), strict=True))
"""Cycles on a small in-order core, guessed before any row was fitted."""


@dataclass(frozen=True)
class Spread:
    """Standard deviations, on a log scale.

    Args:
        everything: of a class from its guess.
        stack: of a class on one software stack from that.
        board: of a class on one board from that.
        scale: of a board's speed.
        variant: of a build option's speed.
        noise: of a row.
    """

    everything: float = 0.5
    stack: float = 0.5
    board: float = 0.1
    scale: float = 2.0
    variant: float = 0.3
    noise: float = 0.05


@dataclass(frozen=True)
class Row:
    """One published result.

    Args:
        board: board and stack, which share a scale.
        stack: software and number type.
        variant: build option; empty for the default.
        network: ic, vww, kws or ad.
        cycles: clock cycles of one inference.
    """

    board: str
    stack: str
    variant: str
    network: str
    cycles: float


class Fit:
    """The fitted model; predicts rows of boards that it has seen at least once."""

    def __init__(
        self, rows: Sequence[Row], work: Mapping[tuple[str, str], Array], spread: Spread
    ) -> None:
        """Fit ``rows``; ``work`` holds the work by class of (stack, network)."""
        self._work = work
        self._slots: dict[tuple[str, str], slice] = {}
        sigma: list[float] = []
        for row in rows:
            for name in _names(row):
                if name not in self._slots:
                    size = 1 if name[0] in _SCALARS else len(CLASSES)
                    self._slots[name] = slice(len(sigma), len(sigma) + size)
                    sigma += [getattr(spread, name[0])] * size
        self._sigma = np.array(sigma)
        self._x = np.zeros(len(sigma))
        self._solve(rows, spread)

    def cycles(self, row: Row) -> float:
        """Return the predicted cycles of a row."""
        logs, units = self._spread_out([row])
        work = self._work[row.stack, row.network]
        return float(
            np.exp(units @ self._x)[0] * (np.exp(logs @ self._x)[0] * _PRIORS * work).sum()
        )

    def per_unit(self, board: str, stack: str) -> dict[str, float]:
        """Return cycles per unit of work by class, on one board."""
        logs, units = self._spread_out([Row(board, stack, "", "", 0.0)])
        cycles = np.exp(units @ self._x)[0] * np.exp(logs @ self._x)[0] * _PRIORS
        return dict(zip(CLASSES, cycles.tolist(), strict=True))

    def _spread_out(self, rows: Sequence[Row]) -> tuple[Array, Array]:
        """Return what parameters add to logs of classes [row, class, p] and rows [row, p]."""
        classes = np.zeros((len(rows), len(CLASSES), len(self._x)))
        whole = np.zeros((len(rows), len(self._x)))
        for i, row in enumerate(rows):
            for name in _names(row):
                at = self._slots.get(name)
                if at is None:
                    continue
                if name[0] in _SCALARS:
                    whole[i, at] = 1.0
                else:
                    classes[i, range(len(CLASSES)), range(at.start, at.stop)] = 1.0
        return classes, whole

    def _solve(self, rows: Sequence[Row], spread: Spread, steps: int = 200) -> None:
        """Levenberg-Marquardt on squared log errors and squared deviations."""
        classes, whole = self._spread_out(rows)
        work = np.array([self._work[r.stack, r.network] for r in rows]) * _PRIORS
        goal = np.log([row.cycles for row in rows])

        def errors(x: Array) -> tuple[Array, Array]:
            terms = np.exp(classes @ x) * work
            return np.log(terms.sum(1)) + whole @ x - goal, terms

        def loss(x: Array) -> float:
            error, _ = errors(x)
            return float(((error / spread.noise) ** 2).sum() + ((x / self._sigma) ** 2).sum())

        best, damping = loss(self._x), 1e-3
        for _ in range(steps):
            error, terms = errors(self._x)
            shares = terms / terms.sum(1, keepdims=True)
            slopes = (np.einsum("ik,ikp->ip", shares, classes) + whole) / spread.noise
            matrix = slopes.T @ slopes + np.diag(self._sigma**-2.0)
            gradient = slopes.T @ (error / spread.noise) + self._x / self._sigma**2
            step = np.linalg.solve(matrix + damping * np.diag(np.diag(matrix)), gradient)
            after = loss(self._x - step)
            if after > best:
                damping *= 10.0
                continue
            self._x, gained = self._x - step, best - after
            best, damping = after, max(damping / 10.0, 1e-9)
            if gained < 1e-9 * (1.0 + best):
                return


_SCALARS = ("scale", "variant")
_PRIORS = np.array([PRIOR[k] for k in CLASSES])


def _names(row: Row) -> list[tuple[str, str]]:
    """Return the parameters that a row depends on: what they are, and of what."""
    found = [("everything", ""), ("stack", row.stack), ("board", row.board), ("scale", row.board)]
    if row.variant:
        found.append(("variant", f"{row.stack} {row.variant}"))
    return found
