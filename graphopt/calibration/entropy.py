"""The range that keeps a distribution: smallest Kullback-Leibler divergence after quantization.

A candidate range is a window of n bins of the histogram. P is the distribution with the clipped
values moved to the ends of the window. Q is what can be told from ``levels`` integers: bin j of the
window belongs to the group floor(j * levels / n), and the values inside a group are spread evenly
over those of its bins that are not empty; clipped values are not part of Q. The divergence is

    KL(P, Q) = sum_j P_j ln(P_j / Q_j) - sum_g (b_g - 1) (1 - exp(1 - m_g)) / (2 * values)

over groups g with b_g filled bins of m_g values on average. The last term is what the noise of a
finite sample adds on average: (b_g - 1) / 2 for many values a bin (G. A. Miller, Note on the bias
of information estimates, 1955), nothing for one value a bin; between them the factor is, to 0.05,
variance / mean of Poisson counts above zero. Without it wide ranges look bad whenever data is
scarce, and with more of it every range looks good where the tails are thin. An empty
bin at an end of the window that receives clipped values counts as one value in Q, because nothing
seen is not proof of nothing there. Single bins that hold far more than their neighbours are values
that the model makes exactly (a background, the bound of a Clip): inside a window they survive
quantization as they are, so they are left out of the groups and add the same to P and Q.

The idea of the search is S. Migacz, 8-bit inference with TensorRT, 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.calibration.density import density

if TYPE_CHECKING:
    from graphopt.calibration.base import Array
    from graphopt.calibration.density import Density
    from graphopt.calibration.histogram import StreamingHistogram

CANDIDATES = 64
"""Thresholds that are tried; neighbours differ by the same factor, 4 % with 4096 bins."""
_SPACING = np.linspace(0.0, 1.0, CANDIDATES)
_NOTHING = 1e-300
_BLOCK = 1 << 12  # groups at once, so that temporary arrays stay within the cache


def entropy_range(
    histogram: StreamingHistogram, *, levels: int = 256, symmetric: bool = False
) -> tuple[float, float]:
    """Return (low, high) of the window with the smallest divergence; of equal ones, the widest.

    Candidates are [max(low, -t), min(high, t)] for thresholds t from max|x| down to where a bin is
    as wide as a step: below that the histogram cannot see what rounding does.

    Args:
        histogram: of the tensor.
        levels: integers of the format.
        symmetric: whether the format covers [-t, t], whatever the values are.

    Raises:
        ValueError: nothing was counted.
    """
    if histogram.low == histogram.high:
        return histogram.low, histogram.high
    found = density(histogram, symmetric=symmetric)
    starts, stops = windows(found, levels)
    if len(starts) < 2 or not found.counts.any():
        return histogram.low, histogram.high
    alone = spikes(found.counts)
    smooth = found.counts - alone
    best = int(np.argmin(divergences(smooth, alone, starts, stops, levels)))
    low = (int(starts[best]) + found.first) * found.width
    high = (int(stops[best]) + found.first) * found.width
    # A tensor that does not reach zero keeps its own end there.
    low = histogram.low if histogram.low >= 0 else max(low, histogram.low)
    high = histogram.high if histogram.high <= 0 else min(high, histogram.high)
    return min(low, high), max(low, high)


def windows(found: Density, levels: int) -> tuple[Array, Array]:
    """Return the first bin and the bin after the last one of each candidate, widest first.

    Windows have at least ``levels`` bins; the first one is everything.
    """
    below, above = -found.first, len(found.counts) + found.first  # bins on each side of zero
    widest = max(below, above)
    narrowest = min(max(levels / (2 if min(below, above) else 1), 1), widest)
    reach = np.rint(widest * (narrowest / widest) ** _SPACING).astype(np.int64)
    starts, stops = below - np.minimum(reach, below), below + np.minimum(reach, above)
    # The reach only falls, so windows that are the same are neighbours.
    keep = np.diff(stops - starts, prepend=-1) != 0
    keep &= stops - starts >= levels
    return starts[keep], stops[keep]


def spikes(counts: Array) -> Array:
    """Return what single bins hold beyond the mean of the two neighbours on each side.

    A spike has three times that mean, and more than a thousandth of all values and 32 of them, so
    that neither a smooth peak nor chance makes one.
    """
    padded = np.zeros(len(counts) + 4)
    padded[2:-2] = counts
    around = (padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]) / 4
    high = counts > np.maximum(3 * around, max(counts.sum() / 1000, 32))
    return np.where(high, counts - around, 0.0)


def divergences(smooth: Array, alone: Array, starts: Array, stops: Array, levels: int) -> Array:
    """Return the divergence of each window, in nats.

    Args:
        smooth: float64 [n], counts without spikes.
        alone: float64 [n], counts of the spikes; not zero everywhere where ``smooth`` is.
        starts: int64 [k], first bin of each window.
        stops: int64 [k], the bin after the last one.
        levels: number of groups, at most the bins of every window.

    Returns:
        float64 [k]; infinity where nothing lies in a window.
    """
    total, inner = _prefix(smooth + alone), _prefix(smooth)
    logs, filled = _prefix(_xlogx(smooth)), _prefix((smooth > 0).astype(np.float64))
    tails = np.stack([total[starts], total[-1] - total[stops]], axis=1)
    ends = np.stack([smooth[starts], smooth[stops - 1]], axis=1)
    unseen = ((ends == 0) & (tails > 0)).astype(np.float64)
    inside = total[stops] - total[starts] + unseen.sum(axis=1)
    with np.errstate(divide="ignore"):
        share = np.log(inside / total[-1])
    own = logs[stops] - logs[starts] + (_xlogx(ends + tails) - _xlogx(ends)).sum(axis=1)
    grouped = np.empty(len(starts))
    step = max(1, _BLOCK // levels)
    for first in range(0, len(starts), step):
        some = slice(first, first + step)
        bounds = starts[some, None] + _parts((stops - starts)[some], levels)
        grouped[some] = _grouped(
            _between(inner, bounds), _between(filled, bounds), tails[some], unseen[some]
        )
    result: Array = np.where(inside > 0, (own - grouped) / total[-1] + share, np.inf)
    return result


def _parts(sizes: Array, levels: int) -> Array:
    """Return where each of ``levels`` groups begins, and the last ends: int64 [k, levels + 1]."""
    found: Array = sizes[:, None] * np.arange(levels + 1)
    if levels & (levels - 1):
        return np.floor_divide(found, levels, out=found)
    # What integers of 8 bits need, in a fraction of the time of a division.
    return np.right_shift(found, levels.bit_length() - 1, out=found)


def _grouped(mass: Array, bins: Array, tails: Array, unseen: Array) -> Array:
    """Return what the groups take off the divergence of each window, times all values.

    Args:
        mass: float64 [k, levels], values of each group; changed.
        bins: float64 [k, levels], its filled bins; changed.
        tails: float64 [k, 2], values beyond each end.
        unseen: float64 [k, 2], 1 where the end's own bin is empty and receives them.
    """
    mass[:, :: mass.shape[1] - 1] += unseen
    bins[:, :: bins.shape[1] - 1] += unseen
    # Counts in Q; a group without any weighs nothing.
    typical = np.maximum(mass, _NOTHING) / np.maximum(bins, 1)
    # A bin that was unseen has no values of its own, so its group weighs one less here.
    mass[:, :: mass.shape[1] - 1] += tails - unseen
    cross = np.einsum("ij,ij->i", mass, np.log(typical))
    np.subtract(1, typical, out=typical)
    chance = np.subtract(1, np.exp(typical, out=typical), out=typical)
    bins -= 1
    noise = np.einsum("ij,ij->i", np.maximum(bins, 0, out=bins), chance) / 2
    result: Array = cross + noise
    return result


def _between(sums: Array, bounds: Array) -> Array:
    """Return the sums between neighbouring bounds of each row."""
    found = sums.take(bounds)
    result: Array = found[:, 1:] - found[:, :-1]
    return result


def _prefix(values: Array) -> Array:
    result = np.zeros(len(values) + 1)
    np.cumsum(values, out=result[1:])
    return result


def _xlogx(values: Array) -> Array:
    result: Array = values * np.log(np.where(values > 0, values, 1.0))
    return result
