"""Least squares in closed form: the weights that make the most of the units that are left.

With rows X' of the smaller model, outputs Y of the original one and the weights W_S that were kept,
about their means,

    W' = (X'^T X' / n + r I)^-1 (X'^T Y / n + r W_S),   b' = mean(Y) - mean(X') W',

with r a share of the mean power of a feature (He et al. 2017, "Channel pruning for accelerating
very deep neural networks", section 3.2, without the LASSO). Few rows know little: r grows as they
get fewer, and with fewer rows than features only the bias is fitted, which is exact for the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphopt.passes.prune.reconstruct.moments import ROWS_PER_FEATURE

if TYPE_CHECKING:
    from graphopt.passes.prune.reconstruct.moments import Moments

    Array = np.ndarray[Any, Any]

RIDGE = 1e-3
"""Share of the mean power of a feature that is added to each."""
_FEWEST = 1.0
"""Independent rows for each feature below which only the bias is fitted."""

Method = Literal["least-squares", "statistics", "bias"]


@dataclass(frozen=True)
class Fit:
    """New weights.

    Args:
        weight: float64 [groups, features, outputs].
        bias: float64 [groups, outputs].
        method: how they were found; what was asked for, or what the rows allowed.
    """

    weight: Array
    bias: Array
    method: Method


def ridge_for(worth: int, features: int, ridge: float = RIDGE) -> float | None:
    """Return the ridge for as many independent rows; None where they allow a bias only.

    ``ridge`` from ten rows for each feature on, and growing with the square of what is missing.
    """
    if worth < _FEWEST * features:
        return None
    return ridge * max(1.0, ROWS_PER_FEATURE * features / worth) ** 2


def fit(
    moments: Moments,
    prior: Array,
    *,
    intercept: bool = True,
    ridge: float = RIDGE,
) -> Fit:
    """Return the weights with the least squared error on the rows behind ``moments``.

    Args:
        moments: of inputs of the smaller model and outputs of the original.
        prior: the weights to stay close to, float64 [groups, features, outputs].
        intercept: whether there is a bias; without one moments are about zero.
        ridge: for enough rows; at least 0.
    """
    share = ridge_for(moments.worth, prior.shape[1], ridge)
    if share is None:
        return fit_bias(moments, prior, intercept=intercept)
    found = solve_moments(moments, prior, share, intercept=intercept)
    return found or fit_bias(moments, prior, intercept=intercept)


def solve_moments(
    moments: Moments, prior: Array, share: float, *, intercept: bool = True
) -> Fit | None:
    """Return the weights and bias for one ridge; None where they are not finite.

    Args:
        moments: of inputs and outputs.
        prior: the weights to stay close to.
        share: the ridge, as a share of the mean power of a feature.
        intercept: whether there is a bias; without one moments are about zero.
    """
    second, cross = moments.centred, moments.cross
    if not intercept:
        second = moments.second
        cross = cross + moments.mean[:, :, None] * moments.mean_out[:, None, :]
    weight = solve(second, cross, prior, share)
    if weight is None:
        return None
    return Fit(weight, _bias(moments, weight, intercept), "least-squares")


def damping(second: Array, share: float) -> Array:
    """Return r, float64 [groups, 1, 1]: a share of the mean of the diagonal of each matrix."""
    ridge = share * np.trace(second, axis1=1, axis2=2) / second.shape[1]
    # A group that never saw anything but its mean keeps its weights.
    return np.asarray(np.where(ridge > 0, ridge, 1.0 if share else 0.0)[:, None, None])


def solve(second: Array, cross: Array, prior: Array, share: float) -> Array | None:
    """Return (second + r I)^-1 (cross + r prior), r = share * mean of the diagonal.

    None where the matrix is singular or the result is not finite. Batched over the first axis.
    """
    ridge = damping(second, share)
    try:
        weight = np.linalg.solve(second + ridge * np.eye(second.shape[1]), cross + ridge * prior)
    except np.linalg.LinAlgError:
        return None
    return weight if np.isfinite(weight).all() else None


def fit_bias(moments: Moments, prior: Array, *, intercept: bool = True) -> Fit:
    """Return the weights as they are, and the bias that makes the means of outputs equal."""
    return Fit(prior, _bias(moments, prior, intercept), "bias")


def _bias(moments: Moments, weight: Array, intercept: bool) -> Array:
    made = np.einsum("gf,gfo->go", moments.mean, weight)
    return moments.mean_out - made if intercept else np.zeros_like(made)


def refit(
    mean: Array, centred: Array, weight: Array, bias: Array, keep: Array, share: float | None
) -> Fit:
    """Return what the original's own moments say about a product that loses features.

    W_S = H_SS^-1 H_S W and b' = b + mean W - mean_S W_S: no run, so many widths can be tried.

    Args:
        mean: E[x], float64 [groups, features].
        centred: H, float64 [groups, features, features].
        weight: W, float64 [groups, features, outputs].
        bias: b, float64 [groups, outputs].
        keep: which features stay; bool [groups, features], as many in each group.
        share: ridge as a share of the mean power of a feature, which pulls towards W; None to leave
            the weights as they are and make up for the mean only.
    """
    groups = range(len(keep))
    kept = np.stack([np.flatnonzero(keep[g]) for g in groups])
    prior = np.take_along_axis(weight, kept[:, :, None], axis=1)
    solved = None
    if share is not None:
        pull = damping(centred, share)[:, 0, 0]
        parts = [made_up(centred[g], keep[g], weight[g], float(pull[g])) for g in groups]
        found = [part for part in parts if part is not None]
        solved = np.stack(found) if len(found) == len(parts) else None
    made = prior if solved is None else solved
    method: Method = "bias" if solved is None else "least-squares"
    lost = np.einsum("gf,gfo->go", mean, weight)
    left = np.einsum("gf,gfo->go", np.take_along_axis(mean, kept, axis=1), made)
    return Fit(made, bias + lost - left, method)


def made_up(second: Array, keep: Array, weight: Array, ridge: float = 0.0) -> Array | None:
    """Return the weights of the features that stay, which make up for the others.

    W_S + (H_SS + r I)^-1 H_SZ W_Z, where S stays and Z goes: exactly W where nothing goes.

    Args:
        second: H, float64 [features, features].
        keep: S, bool [features].
        weight: W, float64 [features, outputs].
        ridge: r, which pulls towards W_S.

    Returns:
        float64 [kept features, outputs]; None where H_SS is singular or the result is not finite.
    """
    lost = second[np.ix_(keep, ~keep)] @ weight[~keep]
    own = second[np.ix_(keep, keep)] + ridge * np.eye(int(keep.sum()))
    try:
        found = weight[keep] + np.linalg.solve(own, lost)
    except np.linalg.LinAlgError:
        return None
    return found if np.isfinite(found).all() else None
