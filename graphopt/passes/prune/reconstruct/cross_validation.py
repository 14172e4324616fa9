"""How well a fit does on samples that it has not seen, from moments alone, and which ridge is best.

With moments of left-out rows x and y, weights W and bias b miss

    E|y - x W - b|^2 = V_y - 2 <W, C_xy> + <W, C_xx W> + |mean(y) - mean(x) W - b|^2,

so that no row has to be kept to choose a ridge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.least_squares import solve_moments
from graphopt.passes.prune.reconstruct.moments import Moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graphopt.passes.prune.reconstruct.least_squares import Fit

    Array = np.ndarray[Any, Any]


def best_ridge(
    pairs: Sequence[tuple[Moments, Moments]],
    prior: Array,
    ridges: Iterable[float],
    *,
    intercept: bool = True,
    slack: float = 0.0,
) -> tuple[float, float] | None:
    """Return the ridge that does best on left-out rows, and what it misses there.

    Args:
        pairs: moments to fit to, and of the rows left out.
        prior: see ``solve``.
        ridges: shares of the mean power of a feature, from the largest; smaller ones are tried as
            long as they do better.
        intercept: whether there is a bias.
        slack: share of the error by which a smaller ridge may do worse than the best so far and
            still be taken.

    Returns:
        the ridge and the mean square, summed over outputs; None where nothing finite was found.
    """
    found: tuple[float, float] | None = None
    least = np.inf
    for ridge in ridges:
        error = _crossed(pairs, prior, ridge, intercept)
        if not error < (1.0 + slack) * least:
            break
        found, least = (ridge, error), min(least, error)
    return found


def _crossed(
    pairs: Sequence[tuple[Moments, Moments]], prior: Array, ridge: float, intercept: bool
) -> float:
    total = rows = 0.0
    for fitted, other in pairs:
        made = solve_moments(fitted, prior, ridge, intercept=intercept)
        if made is None:
            return float("inf")
        total += missed(made, other) * other.rows
        rows += other.rows
    return total / rows


def missed(made: Fit, moments: Moments) -> float:
    """Return E|y - x W - b|^2, summed over groups and outputs, from the moments of x and y."""
    weight = made.weight
    shift = moments.mean_out - made.bias - np.einsum("gf,gfo->go", moments.mean, weight)
    quadratic = float(np.sum(weight * np.matmul(moments.centred, weight)))
    crossed = float(np.sum(weight * moments.cross))
    power = float(moments.variance_out.sum())
    return max(power - 2.0 * crossed + quadratic, 0.0) + float(np.square(shift).sum())


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
