"""Fit a layer to what is left of its outputs behind a Relu or Clip.

Where the total of a layer is read by a Relu alone, an error below zero changes nothing. So with
prediction P the target moves to what costs least,

    Y* = Y where Y > 0, else min(P, 0),

and the fit is repeated: each time the squared distance between predictions and targets gets less,
up to the ridge, as Y* is the nearest to P among all that are as good as Y. Only the cross moments
change, so the second moments are inverted once. The upper bound of a Clip is the same from above.
How often is best is told by samples left out of a first fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.least_squares import Fit, damping

if TYPE_CHECKING:
    from graphopt.passes.prune.reconstruct.layers import Rows
    from graphopt.passes.prune.reconstruct.moments import Moments

    Array = np.ndarray[Any, Any]
    Limits = tuple[float, float]

_ROUNDS = 4
_GAIN = 1e-3
"""Share of the error that a round has to take off for another to follow."""


def fit_rectified(
    rows: Rows, limits: Limits, fitted: tuple[Moments, Moments], prior: Array, share: float
) -> Fit | None:
    """Return weights whose outputs are right between two limits.

    Args:
        rows: all of them.
        limits: what is below the first, or above the second, is as good as that.
        fitted: moments of all rows, and of those that are not left out of a first fit.
        prior: weights to stay close to, float64 [groups, features, outputs].
        share: ridge as a share of the mean power of a feature.

    Returns:
        None where plain least squares do as well on what was left out, or nothing is finite.
    """
    whole, part = fitted
    try:
        rounds = _rounds(rows, limits, part, prior, share)
        return _repeated(rows, limits, whole, prior, share, rounds) if rounds else None
    except np.linalg.LinAlgError:
        return None


def _rounds(rows: Rows, limits: Limits, part: Moments, prior: Array, share: float) -> int:
    """Return after how many rounds the error on left-out rows is least."""
    left = rows.some(rows.left_out)
    squares = _Squares(rows.some(~rows.left_out), part, prior, share)
    made = squares.solve(squares.rows.totals)
    errors = [_missed(left, limits, made)]
    for _ in range(_ROUNDS):
        made = squares.solve(_aims(squares.rows, limits, made))
        errors.append(_missed(left, limits, made))
        if not errors[-1] < (1.0 - _GAIN) * errors[-2]:
            break
    return int(np.argmin(errors))


def _repeated(
    rows: Rows, limits: Limits, whole: Moments, prior: Array, share: float, rounds: int
) -> Fit | None:
    squares = _Squares(rows, whole, prior, share)
    made = squares.solve(rows.totals)
    for _ in range(rounds):
        made = squares.solve(_aims(rows, limits, made))
    finite = np.isfinite(made.weight).all() and np.isfinite(made.bias).all()
    return made if finite else None


class _Squares:
    """One least squares problem for any number of targets."""

    def __init__(self, rows: Rows, moments: Moments, prior: Array, share: float) -> None:
        self.rows = rows
        self._mean = moments.mean
        ridge = damping(moments.centred, share)
        self._inverse = np.linalg.inv(moments.centred + ridge * np.eye(prior.shape[1]))
        self._pull = ridge * prior

    def solve(self, totals: Array) -> Fit:
        """Return what makes totals, float32 [groups, rows, outputs], of the rows."""
        aims = totals if self.rows.skips is None else totals - self.rows.skips
        mean = aims.mean(axis=1, dtype=np.float64)
        apart = aims - mean[:, None, :].astype(np.float32)
        cross = np.matmul(self.rows.inputs.transpose(0, 2, 1), apart) / aims.shape[1]
        # Of the inputs the mean need not be taken off: the other factor adds up to zero.
        weight = self._inverse @ (cross + self._pull)
        return Fit(weight, mean - np.einsum("gf,gfo->go", self._mean, weight), "least-squares")


def _totals(rows: Rows, made: Fit) -> Array:
    """Return what the layer and the skip give now."""
    found = np.matmul(rows.inputs, made.weight.astype(np.float32))
    found += made.bias.astype(np.float32)[:, None, :]
    return np.asarray(found if rows.skips is None else found + rows.skips)


def _aims(rows: Rows, limits: Limits, made: Fit) -> Array:
    """Return the nearest totals that are as good as the original's."""
    low, high = limits
    found = _totals(rows, made)
    aims = np.where(rows.totals <= low, np.minimum(found, low), rows.totals)
    return np.asarray(np.where(rows.totals >= high, np.maximum(found, high), aims))


def _missed(rows: Rows, limits: Limits, made: Fit) -> float:
    found = np.clip(_totals(rows, made), *limits)
    wanted = np.clip(rows.totals, *limits)
    return float(np.square(found - wanted).sum(dtype=np.float64))
