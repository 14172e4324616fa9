"""Ways to choose the range of a tensor from the values it took on calibration data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.calibration.histogram import StreamingHistogram
from graphopt.errors import DataError, RecipeError

if TYPE_CHECKING:
    from graphopt.calibration.base import Array


@dataclass(frozen=True)
class MinMax:
    """The smallest and the largest value seen: nothing is clipped, an outlier costs resolution."""

    name: ClassVar[str] = "min-max"

    def start(self) -> MinMaxAccumulator:
        """Return the empty statistics of one tensor."""
        return MinMaxAccumulator()


class MinMaxAccumulator:
    """Running minimum and maximum."""

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf

    def update(self, values: Array) -> None:
        """Take in one batch; raises ValueError on NaN and infinity."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("the range of NaN or infinity is not defined")
        self._low = min(self._low, low)
        self._high = max(self._high, high)

    def result(self) -> tuple[float, float]:
        """Return (minimum, maximum); raises DataError G213 when nothing was seen."""
        if self._low > self._high:
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
    bins: int = 4096

    def __post_init__(self) -> None:
        if not 0 < self.kept <= 100:
            raise RecipeError(
                f"`kept` of observer `percentile` is {self.kept}",
                hint="it is a percentage, above 0 up to 100, such as 99.99",
            )
        if not 64 <= self.bins <= 65536 or self.bins & (self.bins - 1):
            raise RecipeError(
                f"`bins` of observer `percentile` is {self.bins}",
                hint="it is a power of two from 64 to 65536",
            )

    def start(self) -> PercentileAccumulator:
        """Return the empty statistics of one tensor."""
        return PercentileAccumulator(self.kept, self.bins)


class PercentileAccumulator:
    """A streaming histogram and the part of it to keep."""

    def __init__(self, kept: float, bins: int) -> None:
        self._tail = (100.0 - kept) / 200.0
        self._histogram = StreamingHistogram(bins)

    def update(self, values: Array) -> None:
        """Take in one batch; raises ValueError on NaN and infinity."""
        self._histogram.add(values)

    def result(self) -> tuple[float, float]:
        """Return both percentiles; raises DataError G213 when nothing was seen."""
        if self._histogram.total == 0:
            raise _nothing_seen()
        return self._histogram.quantile(self._tail), self._histogram.quantile(1.0 - self._tail)


def _nothing_seen() -> DataError:
    return DataError(
        "a tensor has no values to take a range from",
        code="G213",
        hint="check that the data reaches every part of the model",
    )
