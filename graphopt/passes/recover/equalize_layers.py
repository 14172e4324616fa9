"""Give the channels between two layers equal ranges, so that one scale fits all of them.

An integer tensor has one scale. Where one channel reaches 6 and another 0.1, the second is left
with a handful of integers. Between two linear layers with a positively homogeneous activation f,

    W2 f(W1 x + b1) = (W2 S) f(S^-1 (W1 x + b1)),   S = diag(s), s > 0,

so that channels can be scaled at will and the function stays the same.

Source: Nagel et al. 2019, arXiv:1906.04721, sec. 4.1, where s_i = sqrt(r1_i / r2_i) makes the
ranges of the two weights equal. Weights that have one scale per output do not need that; what
profits is the tensor between the layers, so r1 is its measured range where there is data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.recover.channel_pairs import LayerPair, layer_pairs
from graphopt.passes.recover.channel_peaks import ChannelPeaks, channel_peaks
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_WORTH = 0.9
"""Share of the predicted error above which a pair is left as it is."""
_LARGEST = 1e3
"""Factor between the channels of a tensor, at most, so that float32 has digits to spare."""


@dataclass(frozen=True)
class EqualizeLayers:
    """Scale the channels between two layers so that they share one integer scale well.

    Args:
        exponent: 1 makes the ranges of the channels equal, whatever that does to the weights that
            read them; 0.5 shares the burden as in the paper; 0 changes nothing.
    """

    name: ClassVar[str] = "equalize-layers"
    effect: ClassVar[Effect] = Effect.EXACT
    exponent: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.exponent <= 1.0:
            raise RecipeError(
                f"exponent {self.exponent:g} is not between 0 and 1",
                code="G103",
                hint="0.5 shares the burden, 1 makes all channels equal",
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Equalize every pair of layers that nobody else reads between."""
        ir.infer_shapes(graph)
        pairs = layer_pairs(graph, context)
        peaks = channel_peaks(graph, context, {p.between.name: p.axis for p in pairs})
        done = 0
        for pair in pairs:
            seen = peaks.get(pair.between.name) or _from_weights(pair)
            scales = self._scales(pair, seen)
            if scales is None:
                context.explain(pair.first, "its channels have similar ranges already")
                continue
            pair.scale(graph, scales)
            context.explain(pair.first, f"channels equalized with {pair.second.name or 'the next'}")
            done += 1
        if not done:
            return PassResult(False)
        return PassResult(True, (f"{done} pair{'s' * (done != 1)} equalized",), {"pairs": done})

    def _scales(self, pair: LayerPair, seen: ChannelPeaks) -> Array | None:
        """Return by what each channel is divided, float64; None where it would not pay."""
        weight = pair.reading_weight()
        if weight.shape[0] * weight.shape[2] != len(seen.peak):
            return None
        scales = divisors(seen.peak, weight, self.exponent)
        before = predicted_error(weight, seen, np.ones_like(seen.peak))
        return scales if predicted_error(weight, seen, scales) < before * _WORTH else None


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


def _from_weights(pair: LayerPair) -> ChannelPeaks:
    """Stand in for measured ranges: those of the weights that write each channel."""
    reach = pair.writing_range()
    return ChannelPeaks(reach, np.square(reach) / 9.0)
