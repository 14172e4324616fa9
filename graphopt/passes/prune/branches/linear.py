"""One linear operator that stands for a run of operators, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.least_squares import RIDGE, solve
from graphopt.passes.prune.reconstruct.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_RIDGES = (1.0, 1e-1, 1e-2, RIDGE, 1e-4, 1e-5, 1e-6)
"""Candidates, as shares of the mean power of a feature."""


class Kind(StrEnum):
    """What can be put in the place of a residual branch y = s + f(x)."""

    REMOVE = "remove"
    """y = s."""

    DROP = "drop"
    """y = s + the mean of f(x): one number for each channel."""

    LIN1 = "lin1"
    """y = s + one product: a convolution of kernel 1, or a MatMul, of x."""

    LIN3 = "lin3"
    """y = s + one convolution of kernel 3 of x."""

    MERGED1 = "merged1"
    """y = one product of x, the skip included: what follows stays, the addition goes."""

    MERGED3 = "merged3"
    """y = one convolution of kernel 3 of x, the skip included."""


@dataclass(frozen=True)
class Linear:
    """A convolution or a matrix product with a bias.

    Args:
        weight: float64 [outputs, inputs, kernel...]; [inputs, outputs] of a matrix product.
        bias: float64 [outputs].
        strides: one for each spatial axis; empty for a matrix product.
        pads: in front of each spatial axis, then behind each.
        error: mean square of what it misses on samples that it was not fitted to, as a share of the
            variance of f(x); 1 is what the mean alone does.
        ridge: the share of the mean power of a feature that served those samples best.
    """

    weight: Array
    bias: Array
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    error: float = 0.0
    ridge: float = 0.0


@dataclass(frozen=True)
class Solution:
    """Weights that make outputs of features.

    Args:
        weight: float64 [features, outputs].
        bias: float64 [outputs].
        error: mean square of what is missed, summed over outputs; of samples left out of the fit.
        ridge: what was chosen.
    """

    weight: Array
    bias: Array
    error: float
    ridge: float


def regress(folds: Sequence[Moments]) -> Solution | None:
    """Return the least squares weights under the ridge that two-fold cross-validation prefers.

    Smaller ridges are tried as long as they do better.

    Args:
        folds: moments of two halves of the samples, of one group each; of one where there is only
            one sample, which says nothing about others: the usual ridge is taken then, and the
            error is that of the fit.

    Returns:
        None where nothing finite was found.
    """
    if len(folds) == 1:
        made = _solution(folds[0], RIDGE)
        return None if made is None else replace(made, error=_missed(made, folds[0]))
    best, least = _RIDGES[0], float("inf")
    for ridge in _RIDGES:
        error = _crossed(folds, ridge)
        if not error < least:
            break
        best, least = ridge, error
    made = _solution(joined(*folds), best)
    return None if made is None or not np.isfinite(least) else replace(made, error=least)


def _crossed(folds: Sequence[Moments], ridge: float) -> float:
    """Return the error on each half of what the other half gives."""
    total = rows = 0.0
    for fitted, other in (folds, folds[::-1]):
        made = _solution(fitted, ridge)
        if made is None:
            return float("inf")
        total += _missed(made, other) * other.rows
        rows += other.rows
    return total / rows


def _solution(moments: Moments, ridge: float) -> Solution | None:
    # What is left without any rows to go by is the mean: the prior is zero.
    weight = solve(moments.centred, moments.cross, np.zeros_like(moments.cross), ridge)
    if weight is None:
        return None
    bias = moments.mean_out[0] - moments.mean[0] @ weight[0]
    return Solution(weight[0], bias, 0.0, ridge)


def _missed(made: Solution, moments: Moments) -> float:
    """Return E|y - x W - b|^2 from the moments of x and y alone."""
    weight = made.weight
    shift = moments.mean_out[0] - moments.mean[0] @ weight - made.bias
    quadratic = float(np.sum(weight * (moments.centred[0] @ weight)))
    crossed = float(np.sum(weight * moments.cross[0]))
    power = float(moments.variance_out[0].sum())
    return max(power - 2.0 * crossed + quadratic, 0.0) + float(shift @ shift)


def joined(one: Moments, other: Moments) -> Moments:
    """Return the moments of both sets of rows together."""
    rows = one.rows + other.rows
    a, b = one.rows / rows, other.rows / rows
    apart, apart_out = other.mean - one.mean, other.mean_out - one.mean_out
    return Moments(
        mean=a * one.mean + b * other.mean,
        centred=a * one.centred + b * other.centred + a * b * _outer(apart, apart),
        mean_out=a * one.mean_out + b * other.mean_out,
        cross=a * one.cross + b * other.cross + a * b * _outer(apart, apart_out),
        variance_out=a * one.variance_out + b * other.variance_out + a * b * apart_out**2,
        rows=rows,
        samples=one.samples + other.samples,
    )


def _outer(one: Array, other: Array) -> Array:
    return np.asarray(one[:, :, None] * other[:, None, :])


def chosen(moments: Moments, features: Array | slice, outputs: slice) -> Moments:
    """Return the moments of some features and some outputs."""
    own = moments.centred[:, features][:, :, features]
    return replace(
        moments,
        mean=moments.mean[:, features],
        centred=own,
        mean_out=moments.mean_out[:, outputs],
        cross=moments.cross[:, features][:, :, outputs],
        variance_out=moments.variance_out[:, outputs],
    )
