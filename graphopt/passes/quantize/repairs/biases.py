"""Mend biases: int32 in the scale of the sums, or in a shape that keeps Add apart from MatMul."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.quantization import affine, dequantizer, stored_constant, tail
from graphopt.analysis.quantization.products import bias_row, bias_scale_fits
from graphopt.passes.quantize.repairs.edit import (
    drop_unread,
    reals,
    set_constant,
    set_parameters,
)
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.analysis.quantization import Rules
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

_LIMIT = float(2**31 - 1)


def bias_scales(graph: Graph, rules: Rules) -> list[Node]:
    """Store an integer bias in the scale of input times weight; off by half a step at most."""
    mended = []
    for node in graph.nodes("Conv", "Gemm"):
        bias = dequantizer(node.inputs[2]) if len(node.inputs) > 2 else None
        source, weight = dequantizer(node.inputs[0]), dequantizer(node.inputs[1])
        stored = stored_constant(bias) if bias is not None else None
        if bias is None or source is None or weight is None or stored is None:
            continue
        found = affine(bias)
        if found is None or bias_scale_fits(source, weight, bias) or len(bias.outputs[0].uses) > 1:
            continue
        values = reals(stored.array(), found.scale, found.zero, 0)
        scale = _product_scale(source, weight)
        if scale is None:
            continue
        set_constant(graph, bias, 0, _integers(values, scale), DType.INT32)
        _set_scale(graph, bias, scale)
        mended.append(node)
    return mended


def gemm_biases(graph: Graph, rules: Rules) -> list[Node]:
    """Store the float bias of a Gemm with a float output as int32."""
    mended = []
    for node in graph.nodes("Gemm"):
        if len(node.inputs) < 3 or tail(node).quantized or rules.bar(node) is not None:
            continue
        bias = node.inputs[2]
        if bias is not None and bias.is_constant and _quantize_bias(graph, node, bias):
            mended.append(node)
    return mended


def matmul_biases(graph: Graph, rules: Rules) -> list[Node]:
    """Keep a MatMul without Q apart from the vector that is added to it.

    With three and more dimensions the vector gets the rank of the output, so that the runtime does
    not make a Gemm of both. A matrix product becomes a Gemm with an int32 bias.
    """
    mended = []
    for node in graph.nodes("MatMul"):
        found = bias_row(node)
        if found is None or tail(node).quantized or not _is_integer(node):
            continue
        add, bias = found
        rank = _rank(node)
        if rank > 2:
            shape = [1] * (rank - 1) + [-1]
            index = 0 if add.inputs[0] is bias else 1
            lifted = graph.add_constant(f"{bias.name}_lifted", bias.array().reshape(shape))
            add.set_input(index, lifted)
            graph.drop_constant(bias)
        elif rank < 2 or not _to_gemm(graph, node, add, bias):
            continue
        mended.append(node)
    return mended


def _is_integer(node: Node) -> bool:
    return all(dequantizer(v) is not None for v in node.inputs[:2])


def _rank(node: Node) -> int:
    """Return the rank of a product by a matrix; 0 where it is not known."""
    shapes = [v.shape for v in (node.outputs[0], node.inputs[0]) if v is not None]
    return next((len(s) for s in shapes if s is not None), 0)


def _to_gemm(graph: Graph, node: Node, add: Node, bias: Value) -> bool:
    node.op = "Gemm"
    if not _quantize_bias(graph, node, bias):
        node.op = "MatMul"
        return False
    graph.replace_uses(add.outputs[0], node.outputs[0])
    drop_unread(graph, add)
    graph.drop_constant(bias)
    return True


def _quantize_bias(graph: Graph, node: Node, bias: Value) -> bool:
    source, weight = dequantizer(node.inputs[0]), dequantizer(node.inputs[1])
    scale = _product_scale(source, weight) if source is not None and weight is not None else None
    values = bias.array()
    if scale is None or not values.ndim or values.shape[-1] != values.size:
        return False
    if scale.size not in {1, values.size} or np.abs(values / scale).max(initial=0.0) > _LIMIT:
        return False
    stored = graph.add_constant(f"{bias.name}_int32", _integers(values.reshape(-1), scale))
    made = graph.add_node(
        "DequantizeLinear",
        [stored, graph.add_constant(f"{bias.name}_scale", scale)],
        [graph.unique_name(f"{bias.name}_dequantized")],
        name=f"DequantizeLinear_{bias.name}",
    )
    _set_scale(graph, made, scale)
    node.set_input(2, made.outputs[0])
    graph.drop_constant(bias)
    graph.sort()
    return True


def _product_scale(source: Node, weight: Node) -> Array | None:
    one, other = affine(source), affine(weight)
    if one is None or other is None or not one.is_scalar or other.block:
        return None
    return np.asarray(one.scale.reshape(-1)[0] * other.scale.reshape(-1), dtype=np.float32)


def _integers(values: Array, scale: Array) -> Array:
    steps = np.rint(values.astype(np.float64) / scale.astype(np.float64))
    return np.clip(steps, -_LIMIT, _LIMIT).astype(np.int32)


def _set_scale(graph: Graph, bias: Node, scale: Array) -> None:
    zeros = np.zeros(scale.shape, np.int32)
    axis = 0 if scale.size > 1 else None
    set_parameters(graph, bias, scale, zeros, DType.INT32, axis)
