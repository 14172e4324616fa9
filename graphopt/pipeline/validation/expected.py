"""What the outputs for each sample are compared with: a label, the next tokens, the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.metrics import Expects, Metric, next_tokens

if TYPE_CHECKING:
    from graphopt.analysis.metrics import AnyMetric
    from graphopt.calibration.base import Feed
    from graphopt.pipeline.validation.originals import OriginalOutputs

    Array = np.ndarray[Any, Any]

_MASK = "attention_mask"


@dataclass
class Expected:
    """What one metric compares the outputs for each sample with.

    Args:
        metric: says what it expects.
        labels: one entry per sample, or None.
        originals: the original's outputs.
        kept: what is kept of the original's outputs, by sample.
    """

    metric: AnyMetric
    labels: Array | None
    originals: OriginalOutputs
    kept: dict[int, Array] = field(default_factory=dict)

    def of(self, index: int, feed: Feed, output: Array) -> Any:
        """Return what is expected of a sample, as the metric takes it.

        Raises:
            ValueError: the next tokens are expected, and are neither in the labels nor the inputs.
        """
        if self.metric.expects is Expects.ORIGINAL:
            return self._original(index, feed)
        label = None if self.labels is None else self.labels[index]
        if self.metric.expects is Expects.LABELS:
            return label
        ids = token_ids(feed, output)
        if label is not None and (ids is None or not _same(label, ids)):
            return label
        if ids is None:
            raise ValueError("there are neither labels nor integer inputs [N, T] to take them from")
        return next_tokens(ids, feed.get(_MASK))

    def learn(self, index: int, output: Array) -> None:
        """Keep what is needed of an output of the original, where it is compared with at all."""
        if self.metric.expects is not Expects.ORIGINAL:
            return
        if isinstance(self.metric, Metric) and self.metric.keep is not None:
            self.kept[index] = self.metric.keep(output)
        else:
            self.originals.keep(index, output)

    def _original(self, index: int, feed: Feed) -> Any:
        if index not in self.kept:
            output = self.originals.of(index, feed)
            if not (isinstance(self.metric, Metric) and self.metric.keep is not None):
                return output
            self.kept[index] = self.metric.keep(output)
        return self.kept[index]


def token_ids(feed: Feed, output: Array) -> Array | None:
    """Return the ids [N, T] that scores [N, T, V] were computed from; None without any."""
    if output.ndim != 3:
        return None
    found = [
        array
        for name, array in feed.items()
        if array.dtype.kind in "iu" and array.shape == output.shape[:2] and name != _MASK
    ]
    return found[0] if found else None


def _same(label: Array, ids: Array) -> bool:
    """Whether the labels are the inputs themselves, which some trainers move by one later."""
    return bool(np.size(label) == ids.size and np.array_equal(np.ravel(label), ids.ravel()))
