"""By how much to divide the channels that a layer reads, and what noise that leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphopt.passes.recover.layers.peaks import ChannelPeaks

    Array = np.ndarray[Any, Any]

WORTH = 0.9
"""Share of what there was before above which channels are left as they are."""
_LARGEST = 1e3
"""Factor between the channels of a tensor, at most, so that float32 has digits to spare."""


def divisors(peak: Array, weight: Array, exponent: float) -> Array:
    """Return s_i = peak_i^a / range_i^(1 - a), 1 for the channel that reaches highest.

    Args:
        peak: float64 [channels].
        weight: what reads them, [groups, outputs, channels of a group, taps].
        exponent: a; with a = 1 the weights have no say.
    """
    reach = np.abs(weight).max(axis=(1, 3)).reshape(-1)
    alive = (peak > 0) & (reach > 0)
    scales = np.ones_like(peak)
    if exponent == 0 or not alive.any():
        return scales
    wanted = peak[alive] ** exponent / (reach[alive] ** (1.0 - exponent))
    top = int(np.argmax(peak[alive] / wanted))
    wanted = wanted / wanted[top]
    scales[alive] = np.clip(wanted, 1.0 / _LARGEST, _LARGEST)
    return scales


def is_worth_it(weight: Array, seen: ChannelPeaks, scales: Array) -> bool:
    """Whether dividing channels makes the predicted error of the outputs clearly smaller."""
    before = predicted_error(weight, seen, np.ones_like(seen.peak))
    return predicted_error(weight, seen, scales) < before * WORTH


def predicted_error(weight: Array, seen: ChannelPeaks, scales: Array) -> float:
    """Return the mean squared error that 8 bits leave in the outputs of the reading layer.

    step_x^2 / 12 sum_i (s_i w_oi)^2 for rounding the tensor, plus
    step_o^2 / 12 sum_i E[x_i^2] / s_i^2 for rounding the weights, with step_x = max_i peak_i / s_i
    / 255 and step_o = max_i |s_i w_oi| / 127; summed over outputs.

    Args:
        weight: [groups, outputs, channels of a group, taps].
        seen: of the channels before they are divided.
        scales: by what each channel is divided.
    """
    groups, _, channels, taps = weight.shape
    grouped = scales.reshape(groups, 1, channels, 1)
    power = (seen.power / scales**2).reshape(groups, channels).sum(axis=1) * taps
    scaled = weight * grouped
    step = (seen.peak / scales).max(initial=0.0) / 255.0
    rounding = np.square(scaled).sum() * step**2
    steps = np.abs(scaled).max(axis=(2, 3)) / 127.0
    return float(rounding + (np.square(steps).sum(axis=1) * power).sum()) / 12.0
