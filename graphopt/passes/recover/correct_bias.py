"""Shift biases so that every integer layer gives the same mean as the float layer.

Rounding weights, clipping ranges and rounding activations move the mean of what a layer computes,
and the layers behind it add that up. The bias can take the shift back at no cost.

Source: Nagel et al. 2019, arXiv:1906.04721, sec. 4.2 and appendix D (empirical correction).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphopt import ir
from graphopt.calibration.moments import ChannelMoments
from graphopt.passes.base import PassResult
from graphopt.passes.recover.layers.inputs import layer_inputs, weight_matrix
from graphopt.passes.recover.layers.quantized import QuantizedLayer, quantized_layers
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

FLOAT_GRAPH = "graph before insert-qdq"
"""What a compile remembers the float graph under, once insert-qdq starts."""


@dataclass(frozen=True)
class CorrectBias:
    """Take the mean error of each integer layer back in its bias; stands after insert-qdq.

    Args:
        method: "empirical" measures the mean of every output channel in the float and in the
            integer model; "analytic" computes the part that comes from rounding the weights out of
            the mean inputs of the float model. Learned rounding includes the analytic one.
        samples: calibration samples that means are measured on, at most. Layers are corrected one
            by one, and the model is run up to each of them, so that deep models take long.
    """

    name: ClassVar[str] = "correct-bias"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    method: Literal["empirical", "analytic"] = "empirical"
    samples: int = 32

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Correct what has a bias; without data, or before insert-qdq, nothing is changed."""
        reference: Graph | None = context.remember(FLOAT_GRAPH, lambda: None)
        if reference is None or not context.has_data:
            return PassResult(False, ("no float model to compare with",))
        ir.infer_shapes(graph)
        layers = list(quantized_layers(graph, reference))
        if not layers:
            return PassResult(False, ("no integer layer has a bias",))
        if self.method == "analytic":
            changed = _correct_analytically(graph, reference, layers, context)
        else:
            changed = self._correct_by_measuring(graph, reference, layers, context)
        if not changed:
            return PassResult(False)
        note = f"{changed} bias{'es' * (changed != 1)} corrected"
        return PassResult(True, (note,), {"biases": changed})

    def _correct_by_measuring(
        self, graph: Graph, reference: Graph, layers: Sequence[QuantizedLayer], context: Context
    ) -> int:
        axes = {layer.output: layer.axis for layer in layers}
        wanted = channel_means(reference, context, axes, self.samples)
        changed = 0
        # One by one: what is wrong behind a layer that has not been corrected yet is its fault.
        for layer in layers:
            found = channel_means(graph, context, {layer.output: layer.axis}, self.samples)
            if layer.output in wanted and layer.output in found:
                mean = wanted[layer.output]
                changed += layer.shift(graph, mean - found[layer.output][: len(mean)])
        return changed


def _correct_analytically(
    graph: Graph, reference: Graph, layers: Sequence[QuantizedLayer], context: Context
) -> int:
    seen = layer_inputs(reference, context)
    changed = 0
    for layer in layers:
        inputs = seen.get(layer.reference)
        weight = layer.reference.inputs[1]
        if inputs is None or weight is None:
            continue
        wanted = weight_matrix(layer.reference, weight.array().astype(np.float64))
        stored = layer.weight(weight.array().shape)
        if stored is None:
            continue
        error = weight_matrix(layer.reference, stored) - wanted
        shift = (error * inputs.mean[:, None, :]).sum(axis=2).reshape(-1)
        changed += layer.set_bias(graph, layer.float_bias(len(shift)) - shift)
    return changed


def channel_means(
    graph: Graph, context: Context, axes: dict[str, int], samples: int
) -> dict[str, Array]:
    """Return the mean of each channel of the named tensors over the first samples.

    Args:
        graph: computes them.
        context: has the data.
        axes: axis of the channels, by tensor name.
        samples: how many samples to run at most.

    Returns:
        float64 [channels] by name; absent where the data never reached it or is not finite.
    """
    moments: dict[str, ChannelMoments] = {}
    for sample, name, values in context.stream(graph, list(axes)):
        if sample >= samples:
            break
        if not values.size or values.dtype.kind != "f" or not np.isfinite(values).all():
            continue
        found = moments.setdefault(name, ChannelMoments(axes[name]))
        if not found.count or len(found.mean) == values.shape[axes[name]]:
            found.update(values)
    return {n: m.mean for n, m in moments.items() if m.count}
