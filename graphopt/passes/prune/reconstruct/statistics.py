"""Give each output channel the mean and the variance that it had before.

    s_o = (sigma_o / sigma'_o)^a,   W_o <- s_o W_o,   b_o <- mu_o + s_o (b_o - mu'_o)

with a = 1 but for shrinkage: the ratio is that of variances to which the same share of the layer's
mean variance was added, so that channels that hardly move are not blown up (statistics correction
of Frantar and Alistarh 2022, "Optimal brain compression", appendix; shrinkage after ASR 2026).
Least squares leaves less variance on purpose, as what cannot be known is better left out: where it
ran, this is not applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.least_squares import Fit

if TYPE_CHECKING:
    from graphopt.passes.prune.reconstruct.moments import Moments

    Array = np.ndarray[Any, Any]

SHRINKAGE = 0.05
"""Share of the mean variance of all channels that is added to each."""
_LARGEST = 4.0
"""Factor by which a channel is scaled, at most."""


def scales(wanted: Array, found: Array, shrinkage: float = SHRINKAGE) -> Array:
    """Return by what each channel is multiplied.

    Args:
        wanted: variances of the original, float64 [..., channels].
        found: variances now, the same shape.
        shrinkage: 0 for the plain ratio of standard deviations.

    Returns:
        float64, between 1/4 and 4; 1 where a channel does not move.
    """
    floor = shrinkage * wanted.mean()
    alive = (found > 0) & (wanted > 0)
    ratio = (wanted + floor) / np.where(alive, found + floor, 1.0)
    return np.where(alive, np.clip(np.sqrt(ratio), 1.0 / _LARGEST, _LARGEST), 1.0)


def fit_statistics(
    moments: Moments, weight: Array, *, intercept: bool = True, shrinkage: float = SHRINKAGE
) -> Fit:
    """Return weights whose outputs have the mean and the variance of the original's.

    Args:
        moments: of inputs of the smaller model and outputs of the original.
        weight: W as it is, float64 [groups, features, outputs].
        intercept: whether there is a bias.
        shrinkage: see ``scales``.
    """
    found = np.einsum("gfo,gfh,gho->go", weight, moments.centred, weight, optimize=True)
    scaled = weight * scales(moments.variance_out, found, shrinkage)[:, None, :]
    made = np.einsum("gf,gfo->go", moments.mean, scaled)
    bias = moments.mean_out - made if intercept else np.zeros_like(made)
    return Fit(scaled, bias, "statistics")
