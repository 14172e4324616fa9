"""What the weights that stay should be, given which ones are 0: least squares on the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.least_squares import made_up

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def reconstruct(weight: Array, keep: Array, second: Array) -> Array:
    """Return the kept weights that change the outputs least.

    For each output, v minimises (w - v)^T H (w - v) with v = 0 outside of S:
    v_S = w_S + H_SS^-1 H_SZ w_Z, where Z is the rest. Outputs with equal zeros are solved together.

    Args:
        weight: w, float [outputs, features].
        keep: S, bool of the same shape.
        second: H, positive definite, float64 [features, features].

    Returns:
        float64 [outputs, features], 0 where ``keep`` is False.
    """
    wide = weight.astype(np.float64)
    found = np.where(keep, wide, 0.0)
    masks, members = np.unique(keep, axis=0, return_inverse=True)
    for index, mask in enumerate(masks):
        if mask.all() or not mask.any():
            continue
        rows = np.flatnonzero(members.reshape(-1) == index)
        solved = made_up(second, mask, wide[rows].T)
        if solved is not None:
            found[np.ix_(rows, mask)] = solved.T
    return found


def effort(keep: Array) -> float:
    """Return about how many multiplications ``reconstruct`` takes for bool [outputs, features]."""
    counts = np.unique(keep, axis=0).sum(axis=1, dtype=np.float64)
    return float((counts**3).sum() * 2 / 3)


def output_error(difference: Array, second: Array) -> float:
    """Return the sum over outputs of d^T H d: the squared error that a change d makes.

    Args:
        difference: float [outputs, features].
        second: E[x x^T], float64 [features, features].
    """
    return float(np.einsum("of,of->", difference @ second, difference))
