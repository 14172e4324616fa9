"""Intervals of shares: of one, and of the difference of two on the same samples.

Both invert a score test: they need no large samples, hold near 0 and 1, and are not empty where
nothing differed. Exact intervals are wider than they need be; normal ones fail where few samples
differ, which is what is asked of a compressed model.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphopt.analysis.intervals.quantiles import Z

if TYPE_CHECKING:
    from collections.abc import Callable

_STEPS = 60


def share_interval(right: float, count: float, z: float = Z) -> tuple[float, float]:
    """Return the interval of a share, 0 to 1.

    Args:
        right: samples that count, 0 to ``count``.
        count: samples, above 0.
        z: standard errors to each side.

    Source: Wilson 1927, Probable inference.
    """
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    # Where none or all count, that end is exact, and rounding must not move it.
    return (0.0 if right <= 0 else max(0.0, middle - half)), (
        1.0 if right >= count else min(1.0, middle + half)
    )


def paired_interval(lost: float, won: float, count: float, z: float = Z) -> tuple[float, float]:
    """Return the interval of (lost - won) / count, -1 to 1: what was lost between two shares.

    Only samples that are right in one and wrong in the other tell, as in McNemar's test.

    Args:
        lost: samples that were right and are wrong.
        won: samples that were wrong and are right.
        count: all samples, above 0.
        z: standard errors to each side.

    Source: Tango 1998, Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design, Statistics in Medicine 17, eq. 6.
    """
    estimate = (lost - won) / count

    def deviation(difference: float) -> float:
        return _deviation(lost, won, count, difference)

    low = _crossing(deviation, -1.0, estimate, z)
    high = _crossing(deviation, estimate, 1.0, -z)
    return low, high


def _deviation(lost: float, won: float, count: float, difference: float) -> float:
    """Return the standard errors between the estimate and a true difference; falls with it."""
    linear = (2 * count - lost + won) * difference - lost - won
    constant = -won * difference * (1 - difference)
    root = math.sqrt(max(linear * linear - 8 * count * constant, 0.0))
    won_share = (root - linear) / (4 * count)
    variance = count * (2 * won_share + difference * (1 - difference))
    distance = lost - won - count * difference
    if variance <= 0.0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _crossing(falls: Callable[[float], float], low: float, high: float, level: float) -> float:
    """Return where a falling function passes ``level``, by bisection."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) > level else (low, middle)
    return (low + high) / 2
