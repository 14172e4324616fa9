"""Ways to choose the range of a tensor from the values it took on calibration data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.calibration.entropy import entropy_range
from graphopt.calibration.histogram import StreamingHistogram
from graphopt.calibration.squared_error import least_squares_range
from graphopt.errors import DataError, RecipeError

if TYPE_CHECKING:
    from graphopt.calibration.base import Array, HistogramObserver

DEFAULT_BINS = 4096
"""Bins unless told otherwise: the same everywhere, so that observers share their histograms."""
MAX_BINS = 65536


@dataclass(frozen=True)
class MinMax:
    """The smallest and the largest value seen: nothing is clipped, an outlier costs resolution."""

    name: ClassVar[str] = "min-max"

    def start(self) -> MinMaxAccumulator:
        """Return the empty statistics of one tensor."""
        return MinMaxAccumulator()


class MinMaxAccumulator:
    """Running minimum and maximum."""

    refuses_infinity: ClassVar[bool] = True

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf

    def update(self, values: Array) -> None:
        """Take in one batch; raises ValueError on NaN and infinity."""
        if values.size == 0:
            return
        low, high = _extremes(values)
        self._low = min(self._low, low)
        self._high = max(self._high, high)

    def result(self) -> tuple[float, float]:
        """Return (minimum, maximum); raises DataError G213 when nothing was seen."""
        if self._low > self._high:
            raise _nothing_seen()
        return self._low, self._high


@dataclass(frozen=True)
class MovingAverage:
    """Averages of the minimum and of the maximum of each sample: a rare outlier counts little.

    low = sum_k w_k min(x_k) / sum_k w_k with w_k = momentum^(n - 1 - k) over samples k = 0 … n - 1,
    and high likewise: later samples count more, and the first one no more than its weight. With
    ``momentum`` 1 it is the plain mean. Unlike the other observers it depends on the order of the
    samples, below 1.

    Args:
        momentum: weight of a sample relative to the next one, 0 to 1.

    Raises:
        RecipeError: G103, an option out of range.
    """

    name: ClassVar[str] = "moving-average"
    momentum: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.momentum <= 1:
            raise _bad_option(self.name, "momentum", self.momentum, "it is a weight, 0 to 1")

    def start(self) -> MovingAverageAccumulator:
        """Return the empty statistics of one tensor."""
        return MovingAverageAccumulator(self.momentum)


class MovingAverageAccumulator:
    """Weighted means of the extremes of the batches."""

    refuses_infinity: ClassVar[bool] = True

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._weight = 0.0
        self._low = 0.0
        self._high = 0.0

    def update(self, values: Array) -> None:
        """Take in one batch; raises ValueError on NaN and infinity."""
        if values.size == 0:
            return
        low, high = _extremes(values)
        self._weight = self._momentum * self._weight + 1.0
        self._low += (low - self._low) / self._weight
        self._high += (high - self._high) / self._weight

    def result(self) -> tuple[float, float]:
        """Return both means; raises DataError G213 when nothing was seen."""
        if self._weight == 0:
            raise _nothing_seen()
        return self._low, self._high


@dataclass(frozen=True)
class Percentile:
    """The middle part of the values: both tails are clipped equally.

    low is the (100 - kept) / 2 percentile, high the (100 + kept) / 2 percentile, interpolated as
    ``numpy.percentile`` does, to within one bin of a streaming histogram.

    Args:
        kept: percentage of the values inside the range, above 0 up to 100.
        bins: bins of the histogram, a power of two from 64 to 65536; 8 bytes each per tensor.

    Raises:
        RecipeError: G103, an option out of range.
    """

    name: ClassVar[str] = "percentile"
    kept: float = 99.999
    bins: int = DEFAULT_BINS

    def __post_init__(self) -> None:
        if not 0 < self.kept <= 100:
            hint = "it is a percentage, above 0 up to 100, such as 99.99"
            raise _bad_option(self.name, "kept", self.kept, hint)
        _check_bins(self.name, self.bins)

    def start(self) -> HistogramAccumulator:
        """Return the empty statistics of one tensor."""
        return HistogramAccumulator(self)

    def choose(self, histogram: StreamingHistogram) -> tuple[float, float]:
        """Return both percentiles."""
        tail = (100.0 - self.kept) / 200.0
        return histogram.quantile(tail), histogram.quantile(1.0 - tail)


@dataclass(frozen=True)
class _OfLevels(ABC):
    """What observers share that look for the best range of a format, by its number of levels."""

    name: ClassVar[str]
    levels: int = 256
    symmetric: bool = False
    bins: int = DEFAULT_BINS

    def __post_init__(self) -> None:
        _check_levels(self.name, self.levels)
        _check_bins(self.name, self.bins)

    def start(self) -> HistogramAccumulator:
        """Return the empty statistics of one tensor."""
        return HistogramAccumulator(self)

    @abstractmethod
    def choose(self, histogram: StreamingHistogram) -> tuple[float, float]:
        """Return the best range."""


@dataclass(frozen=True)
class Entropy(_OfLevels):
    """The range with which the quantized values are distributed most like the original ones.

    It minimises the Kullback-Leibler divergence; see ``graphopt.calibration.entropy`` for the
    definition. Rare large values are clipped where that makes the others finer.

    Args:
        levels: integers of the format, 4 to 65536: 256 for 8 bits. With as many levels as bins
            or more nothing is clipped.
        symmetric: whether the format has its zero in the middle.
        bins: bins of the histogram, a power of two from 64 to 65536; 8 bytes each per tensor.

    Raises:
        RecipeError: G103, an option out of range.
    """

    name: ClassVar[str] = "entropy"

    def choose(self, histogram: StreamingHistogram) -> tuple[float, float]:
        """Return the range with the smallest divergence."""
        return entropy_range(histogram, levels=self.levels, symmetric=self.symmetric)


@dataclass(frozen=True)
class Mse(_OfLevels):
    """The range with the smallest expected squared error of the quantized values.

    It weighs the rounding of what is inside against the clipping of what is not; see
    ``graphopt.calibration.squared_error`` for the model.

    Args:
        levels: integers of the format, 4 to 65536: 256 for 8 bits.
        symmetric: whether the format has its zero in the middle.
        bins: bins of the histogram, a power of two from 64 to 65536; 8 bytes each per tensor.

    Raises:
        RecipeError: G103, an option out of range.
    """

    name: ClassVar[str] = "mse"

    def choose(self, histogram: StreamingHistogram) -> tuple[float, float]:
        """Return the range with the smallest expected error."""
        return least_squares_range(histogram, levels=self.levels, symmetric=self.symmetric)


class HistogramAccumulator:
    """A streaming histogram, and the observer that reads a range from it in the end."""

    refuses_infinity: ClassVar[bool] = True

    def __init__(self, observer: HistogramObserver) -> None:
        self.histogram = StreamingHistogram(observer.bins)
        self._observer = observer

    def update(self, values: Array) -> None:
        """Take in one batch; raises ValueError on NaN and infinity."""
        self.histogram.add(values)

    def result(self) -> tuple[float, float]:
        """Return what the observer chooses; raises DataError G213 when nothing was seen."""
        if self.histogram.total == 0:
            raise _nothing_seen()
        return self._observer.choose(self.histogram)


def _extremes(values: Array) -> tuple[float, float]:
    # The reductions themselves: methods of arrays take twice as long where values are few.
    low = float(np.minimum.reduce(values, axis=None))
    high = float(np.maximum.reduce(values, axis=None))
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("the range of NaN or infinity is not defined")
    return low, high


def _check_bins(name: str, bins: int) -> None:
    if not 64 <= bins <= MAX_BINS or bins & (bins - 1):
        raise _bad_option(name, "bins", bins, "it is a power of two from 64 to 65536")


def _check_levels(name: str, levels: int) -> None:
    if not 4 <= levels <= 65536:
        raise _bad_option(name, "levels", levels, "it is 2^bits: 256 for 8 bits, up to 65536")


def _bad_option(observer: str, option: str, value: float, hint: str) -> RecipeError:
    return RecipeError(f"`{option}` of observer `{observer}` is {value}", hint=hint)


def _nothing_seen() -> DataError:
    return DataError(
        "a tensor has no values to take a range from",
        code="G213",
        hint="check that the data reaches every part of the model",
    )
