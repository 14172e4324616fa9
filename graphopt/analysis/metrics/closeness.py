"""Metrics that need no labels: how close outputs are to the original's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.divergence import kind_of
from graphopt.analysis.metrics.base import (
    POINTS,
    Expects,
    Metric,
    WholeMetric,
    mean,
    negative_mean,
    percent,
)
from graphopt.analysis.metrics.positions import decisions, log_probabilities, scores_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_MOST_PAIRS = 100_000
"""Pairs of samples whose similarity is ranked, at most."""


def _agreeing(output: Array, original: Array) -> tuple[float, float]:
    found = decisions(output)
    if found.shape != original.shape:
        raise ValueError(f"{found.size} decisions, and the original made {original.size}")
    return float((found == original).sum()), float(original.size)


def _relative_entropy(output: Array, original: Array) -> tuple[float, float]:
    """Return (sum of KL(original || output) over the positions in nats, positions)."""
    wanted, found = scores_of(original), scores_of(output)
    if wanted.shape != found.shape or wanted.shape[1] < 2:
        raise ValueError(f"scores of shape {output.shape}, the original's have {original.shape}")
    kind = kind_of([wanted])
    first, second = log_probabilities(wanted, kind), log_probabilities(found, kind)
    with np.errstate(invalid="ignore"):
        terms = np.where(np.exp(first) > 0.0, np.exp(first) * (first - second), 0.0)
    # Rounding may leave less than nothing.
    return float(np.maximum(terms.sum(axis=1), 0.0).sum()), float(len(wanted))


def cosines(one: Array, other: Array) -> Array:
    """Return the cosine of each pair of rows of [n, d]; 1 where both are zero, 0 where one is."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    both = ~one.any(axis=1) & ~other.any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (one * other).sum(axis=1) / lengths
    return np.where(both, 1.0, np.where(lengths == 0.0, 0.0, found))


def _directions(output: Array, original: Array) -> tuple[float, float]:
    wanted = original.reshape(-1, original.shape[-1])
    found = cosines(output.reshape(wanted.shape), wanted)
    return float(found.sum()), float(len(found))


def _order_of_similarities(outputs: Sequence[Array], originals: Sequence[Array]) -> float:
    """Return the rank correlation of the cosines of pairs of samples in both models."""
    found, wanted = (np.stack([np.ravel(o) for o in each]) for each in (outputs, originals))
    first, second = pairs_of(len(found))
    if len(first) < 2:
        raise ValueError("needs at least three samples")
    return rank_correlation(
        cosines(found[first], found[second]), cosines(wanted[first], wanted[second])
    )


def pairs_of(count: int) -> tuple[Array, Array]:
    """Return all pairs i < j of ``count`` samples; of many, those that are least far apart."""
    reach = min(count - 1, max(1, _MOST_PAIRS // max(count, 1)))
    starts = [np.arange(count - step) for step in range(1, reach + 1)]
    steps = [np.full(count - step, step) for step in range(1, reach + 1)]
    if not starts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = np.concatenate(starts)
    return first, first + np.concatenate(steps)


def rank_correlation(one: Array, other: Array) -> float:
    """Return Spearman's rho: the correlation of the ranks, ties at their mean rank.

    1 where neither varies, 0 where one does not.
    """
    first, second = (r - r.mean() for r in (_ranks(one), _ranks(other)))
    power = float((first @ first) * (second @ second))
    if power == 0.0:
        return float(not first.any() and not second.any())
    return float(first @ second) / float(np.sqrt(power))


def _ranks(values: Array) -> Array:
    if np.isnan(values).any():
        raise ValueError("not every output is finite")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2.0)[place])


agreement = Metric(
    "agreement", POINTS, _agreeing, percent, Expects.ORIGINAL, share=True, keep=decisions
)
"""Share of the positions with the largest score where the original has it, in points: 0 to 100."""

kl = Metric("kl", "nats", _relative_entropy, negative_mean, Expects.ORIGINAL)
"""Minus the mean over the positions of KL(original || model) of the class probabilities, in nats.

Scores that are not probabilities go through a softmax. 0 at best.
"""

cosine = Metric("cosine", "", _directions, mean, Expects.ORIGINAL)
"""Mean cosine between the output and the original's, along the last axis: -1 to 1."""

spearman = WholeMetric("spearman", _order_of_similarities, expects=Expects.ORIGINAL)
"""Rank correlation between the original and the model of the cosines of pairs of samples: -1 to 1.

That two samples are more alike than two others is what embeddings are used for. Of more than about
450 samples not all pairs count, but the 100,000 that are least far apart in the shuffled order.
"""
