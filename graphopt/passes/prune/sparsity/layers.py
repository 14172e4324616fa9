"""The weights of a graph that zeros may be put into, and why others are left alone."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.rows import PRODUCTS, MatrixProduct, product_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SparseLayer:
    """One constant, with the products that multiply by it.

    Its rows are the outputs; features are ordered tap by tap, the input channels of a tap side by
    side, so that patterns count along input channels as hardware does.

    Args:
        weight: the constant.
        products: all that reads it; several where weights are shared.
    """

    weight: Value
    products: tuple[MatrixProduct, ...]

    @property
    def first(self) -> MatrixProduct:
        """The first product; the others have the same shape."""
        return self.products[0]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The operators."""
        return tuple(p.node for p in self.products)

    @property
    def run(self) -> int:
        """Input channels of one tap."""
        return self.first.features // max(self.first.taps, 1)

    @property
    def order(self) -> Array:
        """Where each feature of a row stands in a row of the product; int [features]."""
        places = np.arange(self.first.features).reshape(self.run, self.first.taps)
        return places.T.reshape(-1)

    def rows(self) -> Array:
        """Return the weights; float64 [groups, outputs, features]."""
        return self.first.matrix().transpose(0, 2, 1)[:, :, self.order]

    def weight_of(self, rows: Array) -> Array:
        """Return what ``rows`` took apart, in the shape and type of the constant."""
        matrix = np.empty(rows.shape, np.float64)
        matrix[:, :, self.order] = rows
        old = self.weight.array()
        made = self.first.weight_of(matrix.transpose(0, 2, 1), old.shape)
        with np.errstate(over="ignore"):
            # -0.0 + 0.0 is 0.0: a weight that is gone has no sign.
            return np.asarray(made + 0.0).astype(old.dtype)

    @property
    def bias(self) -> Value | None:
        """The float bias that only this layer adds, which can take up a shift of the mean."""
        if len(self.products) != 1 or self.first.bias_of is None:
            return None
        node, index = self.first.bias_of
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value.stored is None or not value.is_constant or value.is_output:
            return None
        whole = value.stored.size == self.first.groups * self.first.outputs
        own = len(value.uses) == 1 and value.graph is node.graph
        return value if own and whole and value.dtype is self.weight.dtype else None


def sparse_layers(
    graph: Graph, context: Context, include: Sequence[str], exclude: Sequence[str]
) -> list[SparseLayer]:
    """Return the weights that qualify, in the order of the graph; explain the others.

    Args:
        graph: its shapes have been inferred; inner graphs are left alone.
        context: is told why.
        include: glob patterns of operator names; without any, all but depthwise convolutions.
        exclude: glob patterns that win over ``include``.
    """
    outer = graph.nodes(*PRODUCTS)
    for node in set(graph.walk()) - set(graph.nodes()):
        if node.op in PRODUCTS:
            context.explain(node, "stays dense: it is inside a control-flow body")
    products: dict[Value, list[MatrixProduct]] = {}
    for node in outer:
        found = product_of(node)
        if found is None:
            context.explain(node, f"stays dense: {_why_no_product(node)}")
        else:
            products.setdefault(found.weight, []).append(found)
    layers = []
    for weight, readers in products.items():
        reason = _obstacle(graph, weight, readers, include, exclude)
        if reason is None:
            layers.append(SparseLayer(weight, tuple(readers)))
        for product in readers if reason is not None else ():
            context.explain(product.node, f"stays dense: {reason}")
    return layers


def _form(node: Node) -> tuple[object, ...]:
    """Return what decides how a weight is read, beside the operator and its groups."""
    return (node.attribute("transB", 0), node.attribute("alpha", 1.0))


def _why_no_product(node: Node) -> str:
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    source = weight.producer if weight is not None else None
    if source is not None and source.op == "DequantizeLinear":
        return "its weights are integers; make them sparse before they are quantized"
    if weight is None or not weight.is_constant:
        return "it has no constant weights"
    return "its weights, or its shapes, are not understood"


def _obstacle(
    graph: Graph,
    weight: Value,
    readers: Sequence[MatrixProduct],
    include: Sequence[str],
    exclude: Sequence[str],
) -> str | None:
    names = [p.node.label for p in readers]
    if any(fnmatchcase(n, p) for n in names for p in exclude):
        return "excluded by the recipe"
    if include and not all(any(fnmatchcase(n, p) for p in include) for n in names):
        return "not among those that the recipe includes"
    first = readers[0]
    if not include and first.groups > 1 and first.features == first.taps:
        return "a depthwise convolution has few weights, and each of them counts"
    known = {p.node for p in readers}
    others = [n for n, i in weight.uses if n not in known or i != 1]
    if others or weight.is_output or weight.graph is not graph:
        by = f"{others[0].op} `{others[0].name}`" if others else "the caller"
        return f"`{weight.name}` is read by {by} too"
    if len({(p.node.op, p.groups, *_form(p.node)) for p in readers}) > 1:
        return f"`{weight.name}` is read in several ways"
    values = weight.array()
    if not values.size or not np.isfinite(values).all():
        return "its weights are empty or not finite"
    return None
