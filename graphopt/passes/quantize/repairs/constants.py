"""Mend constants: weights in a form that no kernel takes, operands that were left float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.quantization import affine, dequantizer, stored_constant, tail
from graphopt.analysis.quantization.members import data_values
from graphopt.analysis.quantization.products import product_findings
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

_READ_AT_EVERY_RUN = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PACKED = frozenset({"Gemm", "MatMul"})
"""Products of floats that packed kernels serve."""


def float_weights(graph: Graph, rules: Rules) -> list[Node]:
    """Store in float what no kernel reads, or reads wrongly; the file grows, the numbers stay.

    That is the weight of a convolution of floats, and one whose scales run over the inputs.
    """
    mended = []
    for node in graph.nodes(*sorted(_READ_AT_EVERY_RUN)):
        weight = dequantizer(node.inputs[1])
        stored = stored_constant(weight) if weight is not None else None
        found = affine(weight) if weight is not None else None
        if weight is None or stored is None or found is None or found.block:
            continue
        if dequantizer(node.inputs[0]) is not None and not _misread(node, rules):
            continue
        if node.op in _PACKED and dequantizer(node.inputs[0]) is None:
            continue
        if weight.outputs[0].dtype not in {None, DType.FLOAT}:
            continue
        axis = found.axis % stored.array().ndim
        values = reals(stored.array(), found.scale, found.zero, axis)
        made = graph.add_constant(f"{weight.outputs[0].name}_float", values)
        node.set_input(1, made)
        drop_unread(graph, weight)
        mended.append(node)
    return mended


def _misread(node: Node, rules: Rules) -> bool:
    """Whether the runtime would apply the scales of the weight to the wrong axis."""
    return node.op == "ConvTranspose" or any(
        f.code == "D203" for f in product_findings(node, rules)
    )


def plain_weights(graph: Graph, rules: Rules) -> list[Node]:
    """Transpose the integer weight of a Gemm of floats, so that packed kernels take it."""
    mended = []
    for node in graph.nodes("Gemm"):
        weight = dequantizer(node.inputs[1])
        stored = stored_constant(weight) if weight is not None else None
        found = affine(weight) if weight is not None else None
        if weight is None or stored is None or found is None or dequantizer(node.inputs[0]):
            continue
        if not node.attribute("transB", 0) or len(weight.outputs[0].uses) > 1:
            continue
        values = stored.array()
        if values.ndim != 2 or (found.block and found.scale.ndim != 2):
            continue
        axis = None if found.is_scalar else 1 - found.axis % 2
        _turn(graph, weight, values.T, found.block, axis)
        weight.outputs[0].shape = values.T.shape
        node.set_attribute("transB", None)
        mended.append(node)
    return mended


def _turn(graph: Graph, weight: Node, values: object, block: int, axis: int | None) -> None:
    found = affine(weight)
    assert found is not None
    set_constant(graph, weight, 0, np.ascontiguousarray(values), found.dtype)
    if not block:
        set_parameters(graph, weight, found.scale, found.zero, found.dtype, axis)
        return
    scale, zero = found.scale.T, np.broadcast_to(found.zero, found.scale.shape).T
    set_parameters(graph, weight, scale, zero, found.dtype, axis)


def operands(graph: Graph, rules: Rules) -> list[Node]:
    """Store a single number that is added or multiplied in 8 bits, where nothing is lost by it."""
    mended = []
    for node in graph.nodes("Add", "Mul"):
        if node.domain or not tail(node).quantized:
            continue
        kinds = [affine(s) for v in data_values(node) if (s := dequantizer(v)) is not None]
        constant = next((v for v in data_values(node) if v.is_constant), None)
        if constant is None or not kinds or kinds[0] is None or constant.dtype is not DType.FLOAT:
            continue
        if kinds[0].dtype.bits == 8 and constant.array().size == 1:
            _quantize_number(graph, node, constant, kinds[0].dtype)
            mended.append(node)
    if mended:
        graph.sort()
    return mended


def _quantize_number(graph: Graph, node: Node, constant: Value, dtype: DType) -> None:
    """Store a number as one step above zero, or as one step below it."""
    number = float(constant.array().reshape(-1)[0])
    kind = np.uint8 if dtype is DType.UINT8 else np.int8
    stored = np.full(constant.array().shape, number >= 0, dtype=kind)
    scale = np.array(abs(number) or 1.0, dtype=np.float32)
    zero = np.array(number <= 0, dtype=kind)
    if number == 0:
        zero = stored.reshape(-1)[0]
    name = graph.unique_name(f"{constant.name}_number")
    made = graph.add_node(
        "DequantizeLinear",
        [
            graph.add_constant(f"{name}_quantized", stored),
            graph.add_constant(f"{name}_scale", scale),
            graph.add_constant(f"{name}_zero_point", zero),
        ],
        [name],
        name=f"DequantizeLinear_{name}",
    )
    for index, value in enumerate(node.inputs):
        if value is constant:
            node.set_input(index, made.outputs[0])
    graph.drop_constant(constant)
