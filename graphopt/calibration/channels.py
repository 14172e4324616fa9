"""Ranges and moments of every channel of activations, in one streaming run."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.calibration.ahead import run_ahead
from graphopt.calibration.collect import as_numbers
from graphopt.calibration.moments import ChannelMoments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.calibration.ahead import TensorSource
    from graphopt.calibration.base import Array, Dataset


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """What a tensor's channels look like; float64 [channels] each, in the tensor's own unit.

    Args:
        low: smallest value.
        high: largest value.
        mean: mean.
        variance: mean squared distance from the mean.
        kurtosis: fourth standardised moment, 3 for a normal distribution, 0 for a constant.
        samples: how many samples the tensor was seen on.
    """

    low: Array
    high: Array
    mean: Array
    variance: Array
    kurtosis: Array
    samples: int

    @property
    def peak(self) -> Array:
        """Largest magnitude of each channel."""
        return abs(self.high).clip(abs(self.low))


def collect_channels(
    source: TensorSource, dataset: Dataset, axes: Mapping[str, int]
) -> dict[str, ChannelStatistics]:
    """Run every sample once and return the statistics along one axis of each named tensor.

    Absent are tensors that the data never reached, that hold no numbers, that have no such axis or
    another size there in some sample; and those with NaN or infinity, whose statistics mean
    nothing. Memory is a few rows of channels per tensor.

    Args:
        source: runs the model.
        dataset: the samples.
        axes: the axis of the channels by tensor, negative from the end: 1 for images, -1 for
            transformers.

    Raises:
        DataError: G211 to G214 from reading the data.
    """
    moments: dict[str, ChannelMoments] = {}
    samples: dict[str, int] = {}
    refused: set[str] = set()
    with closing(run_ahead(source, dataset)) as batches:
        for _, batch in batches:
            for name, values in batch:
                if name not in axes or name in refused or values.size == 0:
                    continue
                found = moments.setdefault(name, ChannelMoments(axes[name]))
                if not _update(found, values):
                    refused.add(name)
                samples[name] = samples.get(name, 0) + 1
    return {
        name: ChannelStatistics(m.low, m.high, m.mean, m.variance, m.kurtosis, samples[name])
        for name, m in moments.items()
        if name not in refused
    }


def _update(moments: ChannelMoments, values: Array) -> bool:
    """Take in one tensor; False when it has no place in the statistics."""
    numbers = as_numbers(values)
    if numbers is None or not -values.ndim <= moments.axis < values.ndim:
        return False
    if moments.count and values.shape[moments.axis] != moments.low.size:
        return False
    if not (math.isfinite(numbers.min()) and math.isfinite(numbers.max())):
        return False
    moments.update(numbers)
    return True
