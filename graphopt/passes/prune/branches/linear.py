"""One linear operator that stands for a run of operators, and how well it does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.cross_validation import best_ridge, joined, missed
from graphopt.passes.prune.reconstruct.least_squares import RIDGE, solve_moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.passes.prune.reconstruct.moments import Moments

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
    # What is left without any rows to go by is the mean: the prior is zero.
    prior = np.zeros_like(folds[0].cross)
    whole = folds[0] if len(folds) == 1 else joined(*folds)
    found: tuple[float, float] | None = (RIDGE, np.nan)
    if len(folds) > 1:
        found = best_ridge(((folds[0], folds[1]), (folds[1], folds[0])), prior, _RIDGES)
    made = solve_moments(whole, prior, found[0]) if found is not None else None
    if found is None or made is None:
        return None
    error = missed(made, whole) if len(folds) == 1 else found[1]
    return Solution(made.weight[0], made.bias[0], error, found[0])


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
