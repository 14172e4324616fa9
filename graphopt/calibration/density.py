"""The distribution of a tensor as the searches for a range see it: exact zeros apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.calibration.base import Array
    from graphopt.calibration.histogram import StreamingHistogram


@dataclass(frozen=True)
class Density:
    """Counts in equal bins that cover zero.

    Every integer format represents zero exactly, and tensors behind a Relu are half zeros: counted
    as a spread of small values, they would pull every range towards zero. The bin that holds zero
    therefore keeps no more than the mean of its neighbours.

    Args:
        counts: float64 [n].
        first: number i of the first bin, which is [i * width, (i + 1) * width).
        width: of a bin, in the unit of the values.
    """

    counts: Array
    first: int
    width: float


def density(histogram: StreamingHistogram, *, symmetric: bool) -> Density:
    """Return the distribution without the spike at zero; raises ValueError if it is empty.

    Args:
        histogram: of the tensor.
        symmetric: whether the bins reach as far below zero as above.
    """
    counts, first, width = histogram.around_zero(symmetric=symmetric)
    zero = -first
    beside = [zero - 1] * (histogram.low < 0) + [zero + 1] * (histogram.high >= width)
    around = [float(counts[i]) for i in beside if 0 <= i < len(counts)]
    counts[zero] = min(float(counts[zero]), sum(around) / max(len(around), 1))
    return Density(counts, first, width)
