"""Write new weights into a matrix product of a smaller graph, and match it with the original's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.passes.prune.reconstruct.least_squares import RIDGE, refit, ridge_for
from graphopt.passes.prune.reconstruct.rows import MatrixProduct, product_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.analysis.coupling import Cut
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.prune.reconstruct.least_squares import Fit
    from graphopt.passes.prune.reconstruct.moments import Moments

    Array = np.ndarray[Any, Any]


def counterpart(node: Node, graph: Graph) -> Node | None:
    """Return the node of another graph that makes the tensor of the same name; None without one."""
    value = graph.find(node.outputs[0].name)
    made = value.producer if value is not None else None
    return made if made is not None and made.op == node.op else None


def owned_product(node: Node | None) -> MatrixProduct | None:
    """Return a matrix product whose weights, and bias, nobody else reads; else None."""
    product = product_of(node) if node is not None else None
    if product is None or len(product.weight.uses) != 1 or product.weight.is_output:
        return None
    bias = _bias_value(product)
    if bias is not None and (len(bias.uses) != 1 or bias.is_output):
        return None
    return product


def _bias_value(product: MatrixProduct) -> Value | None:
    if product.bias_of is None:
        return None
    node, index = product.bias_of
    return node.inputs[index] if index < len(node.inputs) else None


def write(graph: Graph, product: MatrixProduct, weight: Array, bias: Array | None) -> None:
    """Give a product new weights and, unless None, a new bias, which is made where it has none.

    Args:
        graph: the graph of the product; changed.
        product: from ``owned_product``.
        weight: [groups, features, outputs].
        bias: [groups, outputs].
    """
    shape = product.weight.array().shape
    _store(graph, product.weight, product.weight_of(weight, shape))
    if bias is None or product.bias_of is None:
        return
    flat = product.stored_bias(bias)
    old = _bias_value(product)
    if old is not None and old.array().size == flat.size:
        _store(graph, old, flat.reshape(old.array().shape))
        return
    node, index = product.bias_of
    dtype = product.weight.array().dtype
    name = graph.unique_name(f"{node.label}_bias")
    made = graph.add_constant(name, ir.Tensor.from_array(flat.astype(dtype)))
    inputs = [*node.inputs[:index], made, *node.inputs[index + 1 :]]
    node.set_inputs(inputs)
    graph.drop_constant(old)


def _store(graph: Graph, value: Value, array: Array) -> None:
    tensor = value.tensor
    assert tensor is not None
    made = ir.Tensor.from_array(np.ascontiguousarray(array, tensor.array().dtype), tensor.dtype)
    if value.producer is None:
        graph.set_tensor(value, made)
        return
    value.producer.set_attribute("value", made)
    for form in set(value.producer.attribute_names) - {"value"}:
        value.producer.set_attribute(form, None)


def kept_features(product: MatrixProduct, cut: Cut) -> Array | None:
    """Return which features of each group a cut keeps, bool [groups, features].

    None where groups would keep different numbers, or whole groups go.
    """
    channels = product.features // product.taps
    keep = cut.keep(product.source, product.source_axis)
    if keep is None:
        return np.ones((product.groups, product.features), dtype=bool)
    if keep.size != product.groups * channels:
        return None
    wide = np.repeat(keep.reshape(product.groups, channels), product.taps, axis=1)
    counts = wide.sum(axis=1)
    return wide if counts.min() > 0 and np.unique(counts).size == 1 else None


def refit_consumer(
    product: MatrixProduct, moments: Moments, keep: Array, *, ridge: float = RIDGE
) -> Fit:
    """Return the weights of a product of the original for the features that it keeps.

    Only its own moments are needed, so that many widths can be tried after one run. What it would
    be given by layers that shrank as well is not seen: see ``rebuild``.

    Args:
        product: of the original.
        moments: of its inputs.
        keep: bool [groups, features]; see ``kept_features``.
        ridge: for enough rows; with few rows more, or the bias only.
    """
    share = ridge_for(moments.worth, int(keep[0].sum()), ridge)
    weight, bias = product.matrix(), product.bias()
    return refit(moments.mean, moments.centred, weight, bias, keep, share)


def refit_consumers(
    original: Graph, pruned: Graph, cut: Cut, moments: Mapping[Node, Moments]
) -> tuple[str, ...]:
    """Refit, in closed form, every product that lost inputs; return the names of their nodes.

    Args:
        original: the graph that ``cut`` and ``moments`` are of.
        pruned: what the cut made of it; changed in place.
        cut: what was kept.
        moments: by node of the original; those without are left as they are.
    """
    done = []
    for node in original.nodes():
        if node not in moments:
            continue
        product, smaller = product_of(node), owned_product(counterpart(node, pruned))
        keep = kept_features(product, cut) if product is not None else None
        if product is None or smaller is None or keep is None or keep.all():
            continue
        found = refit_consumer(product, moments[node], keep)
        columns = kept_columns(product, cut)
        if columns is None or smaller.groups != product.groups:
            continue
        weight, bias = _columns(found, columns, product.groups)
        if weight.shape == (smaller.groups, smaller.features, smaller.outputs):
            write(pruned, smaller, weight, bias)
            done.append(node.label)
    return tuple(done)


def kept_columns(product: MatrixProduct, cut: Cut) -> Array | None:
    """Return which outputs a cut keeps, ascending; None where groups keep different numbers."""
    total = product.groups * product.outputs
    keep = cut.keep(product.output, product.output_axis)
    if keep is None:
        return np.arange(total)
    counts = keep.reshape(product.groups, -1).sum(axis=1)
    even = keep.size == total and np.unique(counts[counts > 0]).size == 1
    return np.flatnonzero(keep) if even else None


def _columns(found: Fit, columns: Array, groups: int) -> tuple[Array, Array]:
    """Return the kept columns of a fit of all."""
    outputs = found.weight.shape[2]
    local = (columns % outputs).reshape(groups, -1)
    weight = np.take_along_axis(found.weight, local[:, None, :], axis=2)
    return weight, np.take_along_axis(found.bias, local, axis=1)
