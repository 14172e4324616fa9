"""Least squares with coefficients that are at least 0, and their robust form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_TOLERANCE = 1e-10


def nnls(
    matrix: Array, goal: Array, ridge: Array | None = None, centre: Array | None = None
) -> Array:
    """Return x >= 0 that minimises |A x - b|^2 + sum ridge * (x - centre)^2.

    The active-set method on the normal equations, with columns scaled to unit length (Lawson and
    Hanson, Solving Least Squares Problems, 1974, chapter 23; on the Gram matrix: Bro and de Jong,
    J. Chemometrics 11, 1997).

    Args:
        matrix: A, (rows, columns).
        goal: b, (rows,).
        ridge: how strongly each coefficient is held; not held when None.
        centre: where it is held; 0 when None.
    """
    gram, moment = matrix.T @ matrix, matrix.T @ goal
    if ridge is not None:
        gram = gram + np.diag(ridge)
        moment = moment + ridge * (0.0 if centre is None else centre)
    scale = np.sqrt(np.diag(gram))
    scale[scale == 0] = 1.0
    result: Array = _active_set(gram / np.outer(scale, scale), moment / scale) / scale
    return result


def robust_nnls(
    matrix: Array,
    goal: Array,
    ridge: Array | None = None,
    centre: Array | None = None,
    *,
    width: float = 4.0,
    rounds: int = 5,
) -> Array:
    """Return the same with Huber's loss: residuals beyond ``width`` times their spread weigh less.

    The spread is 1.4826 times the median of the absolute residuals (Huber, Robust Statistics,
    1981, section 7.8: iteratively reweighted least squares).
    """
    weights = np.ones(len(goal))
    found = nnls(matrix, goal, ridge, centre)
    for _ in range(rounds):
        residual = np.abs(matrix @ found - goal)
        spread = 1.4826 * float(np.median(residual))
        if spread <= 0:
            break
        weights = np.minimum(1.0, width * spread / np.maximum(residual, 1e-300))
        root = np.sqrt(weights)
        found = nnls(matrix * root[:, None], goal * root, ridge, centre)
    return found


def _active_set(gram: Array, moment: Array) -> Array:
    size = len(moment)
    free = np.zeros(size, dtype=bool)
    refused = np.zeros(size, dtype=bool)
    found = np.zeros(size)
    limit = _TOLERANCE * max(1.0, float(np.abs(moment).max(initial=0.0)))
    for _ in range(10 * size):
        slope = moment - gram @ found
        slope[free | refused] = -np.inf
        best = int(np.argmax(slope))
        if slope[best] <= limit:
            break
        free[best] = True
        found = _descend(gram, moment, found, free)
        # Of two columns that are nearly the same, one may be refused by rounding errors alone.
        refused = np.zeros(size, dtype=bool) if free[best] else refused | (np.arange(size) == best)
    return found


def _descend(gram: Array, moment: Array, found: Array, free: Array) -> Array:
    """Solve on the free coefficients; those that would become negative are fixed at 0 again."""
    while True:
        wanted = np.zeros(len(found))
        chosen = np.flatnonzero(free)
        wanted[chosen] = _solve(gram[np.ix_(chosen, chosen)], moment[chosen])
        if (wanted[chosen] > 0).all():
            return wanted
        blocked = chosen[wanted[chosen] <= 0]
        steps = found[blocked] / np.maximum(found[blocked] - wanted[blocked], 1e-300)
        step = float(steps.min())
        found = found + step * (wanted - found)
        free[blocked[steps <= step]] = False
        found[~free] = 0.0
        if not free.any():
            return found


def _solve(matrix: Array, goal: Array) -> Array:
    shifted = matrix + 1e-11 * np.eye(len(goal))
    solved: Array = np.linalg.solve(shifted, goal)
    return solved
