"""Quantiles of the normal and of Student's distribution."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

LEVEL = 0.95
"""Confidence that an interval is stated with, everywhere."""
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""1.96: the interval of a normal estimate is this many standard errors to each side."""
_LARGE = 1000
_STEPS = 80


@cache
def student(freedom: int) -> float:
    """Return what takes the place of 1.96 where the variance has ``freedom`` degrees, at least 1.

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4 (finite sums), 26.7.5 for large ones.
    """
    if freedom >= _LARGE:
        return Z + (Z**3 + Z) / (4 * freedom)
    low, high = 0.0, 64.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < LEVEL else (low, middle)
    return (low + high) / 2


def _inside(t: float, freedom: int) -> float:
    """Return the probability that |T| < t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine, cosine if freedom > 1 else 0.0) if odd else (1.0, 1.0)
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
