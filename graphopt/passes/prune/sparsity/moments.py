"""Second moments of what sparse layers read, transposed convolutions among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.moments import moments_of
from graphopt.passes.recover.layers.inputs import LayerInputs, layer_inputs
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct
    from graphopt.passes.prune.sparsity.layers import SparseLayer

    Array = np.ndarray[Any, Any]

_SAMPLES = 64
"""Samples that transposed convolutions take rows from."""
_FEATURES = 2048
"""Transposed convolutions of longer rows go without."""


def input_moments(
    graph: Graph, layers: Sequence[SparseLayer], context: Context
) -> dict[Node, LayerInputs]:
    """Return what is known of the inputs of each operator; those that no data reach are absent."""
    if not context.has_data:
        return {}
    found = dict(layer_inputs(graph, context))
    transposed = [p for layer in layers for p in layer.products if p.node.op == "ConvTranspose"]
    nodes = [product.node for product in transposed if _fits(product)]
    moments = moments_of(graph, nodes, context, lambda sample: sample < _SAMPLES)
    for node, each in moments.items():
        token = ("moments", node.outputs[0].name)
        found[node] = LayerInputs(each.mean, each.second, token)
    return found


def _fits(product: MatrixProduct) -> bool:
    plain = product.source.dtype is DType.FLOAT and product.source.graph is product.node.graph
    return plain and product.features <= _FEATURES


def ordered_moments(
    layer: SparseLayer, known: dict[Node, LayerInputs], *, centred: bool
) -> tuple[Array, Array] | None:
    """Return mean and damped second moment of a layer's inputs, in the order of its rows.

    Args:
        layer: with several products, the average over them.
        known: what ``input_moments`` found.
        centred: take the moment about the mean.

    Returns:
        float64 [groups, features] and [groups, features, features]; None where any is unknown.
    """
    if any(node not in known for node in layer.nodes):
        return None
    order = layer.order
    parts = [known[node] for node in layer.nodes]
    mean = np.mean([p.mean for p in parts], axis=0)[:, order]
    second = np.mean([p.moments(centred, 0.0) for p in parts], axis=0)[:, order][:, :, order]
    # A group that only ever read zeros says nothing: every weight counts alike.
    silent = np.trace(second, axis1=1, axis2=2) <= 0
    second[silent] = np.eye(len(order))
    return mean, second
