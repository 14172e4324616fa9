"""How far the outputs of a changed model are from the original's, without labels.

Class scores are compared as distributions, KL(p || q) in nats; everything else by the power of the
difference. Both are zero for equal outputs and add up over small independent changes.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_SUM_TOLERANCE = 1e-3
_SMALLEST = 1e-12
_FEWEST_CLASSES = 2


class OutputKind(Enum):
    """What an output holds."""

    LOGITS = "logits"
    """Scores of classes along the last axis, before a softmax."""
    PROBABILITIES = "probabilities"
    """Shares that sum to one along the last axis."""
    SIGNAL = "signal"
    """Anything else: pictures, sound, boxes, embeddings."""


def kind_of(outputs: Sequence[Array]) -> OutputKind:
    """Tell what an output holds from its values.

    Scores of classes are floats of two axes, or of three for sequences of tokens, over at least two
    classes; a single picture or state is never taken for one, because it has more axes, or no
    batch.

    Args:
        outputs: the same output for several samples.
    """
    first = outputs[0]
    if first.dtype.kind != "f" or first.ndim not in {2, 3} or first.shape[-1] < _FEWEST_CLASSES:
        return OutputKind.SIGNAL
    low = min(float(values.min(initial=0.0)) for values in outputs)
    sums = np.concatenate([values.sum(axis=-1).reshape(-1) for values in outputs])
    if low >= 0.0 and np.allclose(sums, 1.0, atol=_SUM_TOLERANCE):
        return OutputKind.PROBABILITIES
    return OutputKind.LOGITS


def divergence(expected: Array, found: Array, kind: OutputKind) -> float:
    """Return how far an output is from what is expected.

    Mean KL(softmax(expected) || softmax(found)) in nats for logits, the same without softmax for
    probabilities, and half the power of the difference over the power of what is expected for
    signals, which is the KL of two Gaussians of that variance.

    Args:
        expected: float [..., classes], or any shape for signals.
        found: the same shape.
        kind: what they hold.

    Returns:
        At least 0; infinity where something found is not finite, or has another shape.
    """
    if expected.shape != found.shape or not np.isfinite(found).all():
        return float("inf")
    one, other = expected.astype(np.float64), found.astype(np.float64)
    if kind is OutputKind.SIGNAL:
        power = float(np.square(one).mean()) if one.size else 0.0
        noise = float(np.square(one - other).mean()) if one.size else 0.0
        return 0.5 * noise / max(power, _SMALLEST)
    if kind is OutputKind.LOGITS:
        first, second = _log_softmax(one), _log_softmax(other)
    else:
        first, second = np.log(np.maximum(one, _SMALLEST)), np.log(np.maximum(other, _SMALLEST))
    return max(0.0, float((np.exp(first) * (first - second)).sum(axis=-1).mean()))


def _log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
