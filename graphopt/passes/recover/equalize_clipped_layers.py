"""Let channels behind a ReLU6 use the whole range up to its bound, so that one scale fits all.

Between two layers with y = min(max(z, 0), b) in between, a channel that never gets above p < b can
be made larger by b / (p m): the layer before it is multiplied by that, the layer behind it divided.
Nothing changes as long as the channel stays below p m, where it is clipped from now on. That is
what an integer tensor does to all of its channels at the end of its range anyway, and the margin m
keeps clear of it.

Source: Nagel et al. 2019, arXiv:1906.04721, sec. 5.1.1, replace ReLU6 by ReLU to be able to scale
channels at all; with the bound kept, the runtime still fuses it, and there is no overflow.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.recover.layers.equalizing import equalize_pairs
from graphopt.passes.recover.layers.pairs import clipped_pairs
from graphopt.passes.recover.layers.peaks import channel_peaks
from graphopt.passes.recover.layers.scaling import WORTH, divisors, is_worth_it
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.recover.layers.pairs import LayerPair
    from graphopt.passes.recover.layers.peaks import ChannelPeaks

    Array = np.ndarray[Any, Any]

_MODES = ("auto", "on", "off")
_SMALLEST = 1e-3
"""Least share of the bound that a channel is taken to need."""


@dataclass(frozen=True)
class EqualizeClippedLayers:
    """Scale channels up to the bound of the Clip between two layers.

    Args:
        mode: "on", "off", or "auto" (the planner does it where operators become integer and the
            outputs are nearer to the original's, and writes that here).
        margin: how far above what the data showed a channel may go before it is clipped; at
            least 1.
    """

    name: ClassVar[str] = "equalize-clipped-layers"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    mode: str = "auto"
    margin: float = 1.6

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise RecipeError(
                f"`{self.mode}` is not a mode of `{self.name}`", hint=", ".join(_MODES)
            )
        if not self.margin >= 1.0:
            raise RecipeError(
                f"margin {self.margin:g} is below 1",
                code="G103",
                hint="1.6 lets a channel go 60 % above what the data showed",
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Scale every pair with a Clip in between; nothing without data."""
        if self.mode != "on" or not context.has_data:
            return PassResult(False, ("left as they are",))
        ir.infer_shapes(graph)
        pairs = clipped_pairs(graph, context)
        axes = {p.between.name: p.axis for p in pairs}
        peaks = channel_peaks(graph, context, axes, samples=sys.maxsize)
        return equalize_pairs(
            graph,
            context,
            pairs,
            lambda p: self._scales(p, peaks.get(p.between.name)),
            left="its channels use the range of its Clip already",
            done=lambda p: f"channels scaled up to its Clip's {p.bound:g}",
        )

    def _scales(self, pair: LayerPair, seen: ChannelPeaks | None) -> Array | None:
        """Return by what each channel is divided, in (0, 1]; None where it would not pay."""
        if seen is None:
            return None
        weight = pair.weight_of(len(seen.peak))
        if weight is None:
            return None
        least = np.clip(seen.top * self.margin / pair.bound, _SMALLEST, 1.0)
        # A channel that was never seen at work says nothing about how far it goes.
        least[seen.top == 0.0] = 1.0
        if weight.shape[2] == 1:  # every channel has weights with a scale of their own
            return least if least.mean() < WORTH else None
        shared = divisors(seen.peak, weight, 0.5)
        scales = np.clip(shared / shared.max(initial=0.0), least, 1.0)
        return scales if is_worth_it(weight, seen, scales) else None
