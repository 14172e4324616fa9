"""Metrics of class scores against class numbers: classifiers, taggers, decoders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.metrics.base import POINTS, Expects, Metric, mean, negative_mean, percent
from graphopt.analysis.metrics.positions import labelled_scores, log_probabilities, ranks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_LARGEST_EXPONENT = 700.0


def _among(count: int, output: Array, labels: Any) -> tuple[float, float]:
    """Return (positions whose label is among the ``count`` best, positions)."""
    scores, wanted = labelled_scores(output, labels)
    return float((ranks_of(scores, wanted) < count).sum()), float(len(wanted))


def _surprise(output: Array, labels: Any) -> tuple[float, float]:
    """Return (sum of -log p(label) in nats, positions)."""
    scores, wanted = labelled_scores(output, labels)
    found = np.take_along_axis(log_probabilities(scores), wanted[:, None], axis=1)
    return -float(found.sum()), float(len(wanted))


def _negative_perplexity(sums: Array) -> Array:
    return -np.exp(np.minimum(mean(sums), _LARGEST_EXPONENT))


def are_classes(outputs: Sequence[Array], labels: Array) -> bool:
    """Whether labels are class numbers and outputs the scores of those classes, one row each."""
    if np.asarray(labels).dtype.kind not in "iu" or not outputs:
        return False
    flat = np.asarray(labels).size == len(outputs)
    scores = [o for o in outputs if o.dtype.kind == "f" and max(o.shape, default=0) == o.size > 1]
    return flat and len(scores) == len(outputs) and int(np.max(labels)) < scores[0].size


top1 = Metric("top1", POINTS, partial(_among, 1), percent, share=True)
"""How often the largest score is that of the label, in points: 0 to 100."""

top5 = Metric("top5", POINTS, partial(_among, 5), percent, share=True)
"""How often the label is among the five largest scores, in points: 0 to 100."""

next_token_top1 = Metric(
    "next-token-top1", POINTS, partial(_among, 1), percent, Expects.NEXT, share=True
)
"""How often the largest score is that of the next token, in points: 0 to 100."""

cross_entropy = Metric("cross-entropy", "nats", _surprise, negative_mean, Expects.NEXT)
"""Minus the mean of -log p(label) over all positions, in nats: 0 at best, so larger is better."""

perplexity = Metric("perplexity", "", _surprise, _negative_perplexity, Expects.NEXT)
"""Minus exp(mean of -log p(label)) over all positions: -1 at best, so larger is better."""
