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
from graphopt.passes.recover.layers.equalizing import equalize_pairs
from graphopt.passes.recover.layers.pairs import LayerPair, layer_pairs
from graphopt.passes.recover.layers.peaks import ChannelPeaks, channel_peaks
from graphopt.passes.recover.layers.scaling import divisors, is_worth_it
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, PassResult

    Array = np.ndarray[Any, Any]


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
        return equalize_pairs(
            graph,
            context,
            pairs,
            lambda p: self._scales(p, peaks.get(p.between.name) or _from_weights(p)),
            left="its channels have similar ranges already",
            done=lambda p: f"channels equalized with {p.second.name or 'the next'}",
        )

    def _scales(self, pair: LayerPair, seen: ChannelPeaks) -> Array | None:
        """Return by what each channel is divided, float64; None where it would not pay."""
        weight = pair.weight_of(len(seen.peak))
        if weight is None:
            return None
        scales = divisors(seen.peak, weight, self.exponent)
        return scales if is_worth_it(weight, seen, scales) else None


def _from_weights(pair: LayerPair) -> ChannelPeaks:
    """Stand in for measured ranges: those of the weights that write each channel."""
    reach = pair.writing_range()
    return ChannelPeaks(reach, np.square(reach) / 9.0, reach)
