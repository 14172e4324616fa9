"""Thread scaling: how long a kernel must be to be divided, and how much faster it is then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, Any]
    Pair = tuple[float, float]

GRAINS_US = (0.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0)
"""Lengths to choose from."""

_FEWEST = 5
"""Long kernels that a speed-up is found from."""


def fit_threads(pairs: Mapping[int, Sequence[Pair]]) -> tuple[dict[str, float], float]:
    """Return (speed-up of long kernels by threads, grain in microseconds).

    Of the lengths in ``GRAINS_US``, the one that explains the measurements best by the sum of
    absolute logarithms; the speed-up is the median of what is twice as long.

    Args:
        pairs: (time with one thread, time with n) of the same kernels, by n.
    """
    usable = {n: np.array(p) for n, p in pairs.items() if len(p) >= _FEWEST and n > 1}
    if not usable:
        return {}, 0.0
    fits = [_with_grain(usable, grain) for grain in GRAINS_US]
    best = int(np.argmin([error for error, _ in fits]))
    return fits[best][1], GRAINS_US[best]


def _with_grain(pairs: Mapping[int, Array], grain: float) -> tuple[float, dict[str, float]]:
    error, speedups = 0.0, {}
    for count, times in pairs.items():
        one, many = times[:, 0], times[:, 1]
        long = one > 2 * grain
        if long.sum() < _FEWEST:
            return float("inf"), {}
        gain = float(np.clip(np.median(one[long] / many[long]), 1.0, count))
        speedups[str(count)] = gain
        predicted = np.where(one > grain, np.maximum(one / gain, np.minimum(grain, one)), one)
        error += float(np.abs(np.log(many / predicted)).sum())
    return error, speedups
