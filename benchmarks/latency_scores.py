"""Scores of predicted latencies, and the noise ceiling of architectures that cost the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    Array = np.ndarray[Any, Any]

WITHIN = 0.10
"""Relative error up to which a prediction counts as right, as nn-Meter counts."""


def scores(predicted: Array, measured: Array) -> dict[str, float]:
    """Return rank correlations, mean relative error and share within 10 %, both in percent."""
    error = np.abs(predicted / measured - 1)
    return {
        "spearman": spearman(predicted, measured),
        "kendall": kendall(predicted, measured),
        "mape": 100 * float(error.mean()),
        "within_10": 100 * float((error <= WITHIN).mean()),
    }


def mean_scores(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score, rounded to 4 digits behind the point."""
    return {key: round(float(np.mean([r[key] for r in rounds])), 4) for key in rounds[0]}


def spearman(first: Array, second: Array) -> float:
    """Return Spearman's rho; ties get their mean rank."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def kendall(first: Array, second: Array) -> float:
    """Return Kendall's tau-b."""
    upper = np.triu_indices(len(first), 1)
    one = np.sign(first[:, None] - first[None, :])[upper]
    two = np.sign(second[:, None] - second[None, :])[upper]
    pairs = np.sqrt(float((one != 0).sum()) * float((two != 0).sum()))
    return float((one * two).sum() / pairs)


def twin_medians(keys: Sequence[Hashable], measured: Array) -> Array:
    """Return for each item the median of the others with its key; NaN where there is none."""
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    found = np.full(len(measured), np.nan)
    for members in groups.values():
        for index in members if len(members) > 1 else ():
            found[index] = np.median([measured[m] for m in members if m != index])
    return found


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Array = (ends - (counts - 1) / 2)[inverse]
    return ranks
