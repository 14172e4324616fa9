"""The float weights that the integers of a graph were rounded from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.quantization.pairs import dequantizer, has_quantization
from graphopt.passes.recover.correct_bias import FLOAT_GRAPH
from graphopt_torch.quantization.stored_integers import spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt_torch.quantization.stored_integers import StoredIntegers

    Array = np.ndarray[Any, Any]

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_NEAR = 2.0
"""Steps by which integers of the same weight may be off: learned rounding goes further than 1/2."""


def float_graph(graph: Graph, context: Context) -> Graph | None:
    """Return the graph from which a compile made the quantized ``graph``, where it remembers it."""
    if not has_quantization(graph):
        return None  # what is remembered first is kept: it must be what insert-qdq sees
    found: Graph | None = context.remember(FLOAT_GRAPH, lambda: None)
    return found


def float_weights(
    graph: Graph, reference: Graph | None, stored: Mapping[str, StoredIntegers]
) -> dict[str, Array]:
    """Return by name of the integers the float weight, where both graphs show the same layer.

    Padding that the integers have got is 0. A weight that is not near its integers is left out: it
    is another one, or was written in another form.

    Args:
        graph: with Q and DQ.
        reference: the graph before they were inserted; tensors have the same names.
        stored: the integer weights of ``graph`` by name.
    """
    if reference is None:
        return {}
    layers = {n.outputs[0].name: n for n in reference.nodes(*_LAYERS)}
    found: dict[str, Array] = {}
    for node in graph.nodes(*_LAYERS):
        twin = layers.get(node.outputs[0].name)
        facts = stored.get(_stored_name(node))
        if twin is None or facts is None or twin.op != node.op:
            continue
        weight = _fitted(twin, facts)
        if weight is not None:
            found[facts.name] = weight
    return found


def _stored_name(node: Node) -> str:
    source = dequantizer(node.inputs[1])
    value = source.inputs[0] if source is not None else None
    return value.name if value is not None else ""


def _fitted(twin: Node, facts: StoredIntegers) -> Array | None:
    value = twin.inputs[1]
    if value is None or not value.is_constant:
        return None
    weight = value.array().astype(np.float64)
    wanted = facts.integers.shape
    if weight.ndim != len(wanted) or any(w > n for w, n in zip(weight.shape, wanted, strict=True)):
        return None
    widths = [(0, n - w) for w, n in zip(weight.shape, wanted, strict=True)]
    padded = np.pad(weight, widths)
    scales = spread(facts.scales.astype(np.float64), facts.integers, facts.axis, facts.block)
    alive = np.broadcast_to(scales != 0, wanted)
    steps = np.divide(padded, scales, out=np.zeros(wanted), where=alive)
    steps = np.clip(steps, facts.low - facts.zero, facts.high - facts.zero)
    return padded if np.abs(steps - facts.integers + facts.zero).max() <= _NEAR else None
