"""Second moments of what sparse layers read, transposed convolutions among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.gram import Gram
from graphopt.passes.recover.layers.inputs import LayerInputs, layer_inputs
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct
    from graphopt.passes.prune.sparsity.layers import SparseLayer

    Array = np.ndarray[Any, Any]

_SAMPLES = 16
_ROWS = 256
"""Rows that one sample gives to a transposed convolution, at most."""
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
    return found | _transposed(graph, [p for p in transposed if _fits(p)], context)


def _fits(product: MatrixProduct) -> bool:
    plain = product.source.dtype is DType.FLOAT and product.source.graph is product.node.graph
    return plain and product.features <= _FEATURES


def _transposed(
    graph: Graph, products: Sequence[MatrixProduct], context: Context
) -> dict[Node, LayerInputs]:
    if not products:
        return {}
    sums = {p.node: [Gram() for _ in range(p.groups)] for p in products}
    names = {n for p in products for n in (p.source.name, p.node.outputs[0].name)}
    held: dict[str, Array] = {}
    current = -1
    for sample, name, values in context.stream(graph, sorted(names)):
        if sample != current:
            _take(products, held, sums, np.random.default_rng((context.seed, max(current, 0))))
            held, current = {}, sample
        if sample >= _SAMPLES:
            break
        held[name] = values
    _take(products, held, sums, np.random.default_rng((context.seed, max(current, 0))))
    return {p.node: _inputs(p, sums[p.node]) for p in products if sums[p.node][0].count}


def _take(
    products: Sequence[MatrixProduct],
    held: dict[str, Array],
    sums: dict[Node, list[Gram]],
    random: np.random.Generator,
) -> None:
    for product in products:
        source, output = held.get(product.source.name), held.get(product.node.outputs[0].name)
        if source is None or output is None or not np.isfinite(source).all():
            continue
        count = product.count(output)
        picked = np.arange(count)
        if count > _ROWS:
            picked = np.sort(random.choice(count, _ROWS, replace=False))
        rows = product.inputs(source, output.shape[2:], picked)
        for gram, part in zip(sums[product.node], rows, strict=True):
            gram.update(part)


def _inputs(product: MatrixProduct, grams: Sequence[Gram]) -> LayerInputs:
    mean = np.stack([g.mean for g in grams])
    second = np.stack([g.matrix / g.count for g in grams])
    return LayerInputs(mean, second, (product.source.name, product.node.name))


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
