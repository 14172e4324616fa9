"""How good outputs are, given labels: the metrics that come with graphopt; larger is better.

A metric takes the first output of the model for each sample, a list of arrays with their batch
axis, and the labels, one entry per sample; it returns one number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]


def top1(outputs: Sequence[Array], labels: Array) -> float:
    """Return how often the largest score is that of the label, in points: 0 to 100.

    Args:
        outputs: class scores, [1, ..., classes] with one class axis that is longer than 1, or flat.
        labels: class numbers, one per sample.
    """
    right = [int(np.argmax(o)) == int(y) for o, y in zip(outputs, np.ravel(labels), strict=True)]
    return 100.0 * float(np.mean(right))


def psnr(outputs: Sequence[Array], labels: Array) -> float:
    """Return the mean over the samples of 10 log10(peak^2 / mean squared error), in dB.

    The peak is 255 where the labels are integers, and 1 otherwise. A sample without any error
    counts as 100 dB.
    """
    peak = 255.0 if np.asarray(labels).dtype.kind in "iu" else 1.0
    found = [10 * math.log10(peak**2 / e) if e > 0 else 100.0 for e in _errors(outputs, labels)]
    return float(np.mean(found))


def negative_mse(outputs: Sequence[Array], labels: Array) -> float:
    """Return minus the mean squared error against the labels, so that larger is better."""
    return -float(np.mean(list(_errors(outputs, labels))))


def _errors(outputs: Sequence[Array], labels: Array) -> list[float]:
    """Return the mean squared error of each sample."""
    pairs = zip(outputs, labels, strict=True)
    return [
        float(np.square(np.asarray(o, np.float64) - np.reshape(y, np.shape(o))).mean())
        for o, y in pairs
    ]


def are_classes(outputs: Sequence[Array], labels: Array) -> bool:
    """Whether labels are class numbers and outputs the scores of those classes, one row each."""
    if np.asarray(labels).dtype.kind not in "iu" or not outputs:
        return False
    flat = np.asarray(labels).size == len(outputs)
    scores = [o for o in outputs if o.dtype.kind == "f" and max(o.shape, default=0) == o.size > 1]
    return flat and len(scores) == len(outputs) and int(np.max(labels)) < scores[0].size
