"""Mend scales, zero points and element types; every real number stays what it was."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.analysis.quantization import (
    affine,
    dequantizer,
    is_dequantize,
    is_quantize,
    stored_constant,
)
from graphopt.analysis.quantization.operators import (
    HEAVY,
    readers_of,
    signed_with_several_readers,
)
from graphopt.errors import ModelError
from graphopt.passes.quantize.repairs.edit import (
    readers_are_dequantizers,
    set_constant,
    set_parameters,
)
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.analysis.quantization import Affine, Rules
    from graphopt.ir import Graph, Node

_SHIFT = 128
_PER_CHANNEL_OPSET = 13
_CONVERTERS = ("QuantizeLinear", "DequantizeLinear")


def _is_weight(dequantize: Node) -> bool:
    """Whether a DQ of a constant feeds the weight or the bias of a product."""
    return any(n.op in {*HEAVY, "ConvTranspose"} and i > 0 for n, i in dequantize.outputs[0].uses)


def newer_opset(graph: Graph, rules: Rules) -> list[Node]:
    """Bring a model that has scales per channel to opset 13, the first one that knows them."""
    if graph.opset >= _PER_CHANNEL_OPSET:
        return []
    found = [n for n in graph.nodes(*_CONVERTERS) if not n.domain and "axis" in n.attributes]
    if not found:
        return []
    # The converter refuses the attribute; it is right again afterwards.
    axes = {n.outputs[0].name: n.attribute("axis") for n in found}
    for node in found:
        node.set_attribute("axis", None)
    # Where the converter has no rule for the model, it stays as it is.
    with contextlib.suppress(ModelError):
        ir.upgrade_opset(graph, _PER_CHANNEL_OPSET)
    mended = [n for n in graph.nodes(*_CONVERTERS) if n.outputs[0].name in axes]
    for node in mended:
        node.set_attribute("axis", axes[node.outputs[0].name])
    return mended if graph.opset >= _PER_CHANNEL_OPSET else []


def rank_zero_scales(graph: Graph, rules: Rules) -> list[Node]:
    """Store the only scale of an activation with rank 0 in place of [1]."""
    mended = []
    for node in graph.nodes("QuantizeLinear", "DequantizeLinear"):
        found = affine(node)
        if found is None or not found.is_scalar:
            continue
        if stored_constant(node) is not None and _is_weight(node):
            continue
        if found.scale.ndim == 0 and found.zero.ndim == 0:
            continue
        set_parameters(graph, node, found.scale, found.zero, found.dtype)
        mended.append(node)
    return mended


def zero_points(graph: Graph, rules: Rules) -> list[Node]:
    """Write the zero points of 8-bit tensors that are omitted, which are 0."""
    mended = []
    for node in graph.nodes("QuantizeLinear", "DequantizeLinear"):
        found = affine(node)
        if found is None or found.has_zero or found.dtype.bits != 8 or found.block:
            continue
        axis = None if found.is_scalar else found.axis
        set_parameters(graph, node, found.scale, found.zero, found.dtype, axis)
        mended.append(node)
    return mended


def equal_scales(graph: Graph, rules: Rules) -> list[Node]:
    """Replace a vector of equal scales on an activation by the one scale.

    The vector before an operator with a float weight stays: it keeps that operator in float.
    """
    mended = []
    for node in graph.nodes("QuantizeLinear", "DequantizeLinear"):
        found = affine(node)
        if found is None or found.scale.size < 2 or stored_constant(node) is not None:
            continue
        if not (np.ptp(found.scale) == 0 and np.ptp(found.zero) == 0) or _protects(node):
            continue
        first = found.scale.reshape(-1)[0], found.zero.reshape(-1)[0]
        set_parameters(graph, node, np.asarray(first[0]), np.asarray(first[1]), found.dtype)
        mended.append(node)
    return mended


def _protects(node: Node) -> bool:
    return is_dequantize(node) and any(
        dequantizer(reader.inputs[1]) is None
        for reader in node.outputs[0].consumers
        if len(reader.inputs) > 1 and reader.op in {"Conv", "ConvTranspose", "Gemm"}
    )


def unsigned_activations(graph: Graph, rules: Rules) -> list[Node]:
    """Store int8 activations as uint8 where the target's kernels take nothing else.

    integer + 128 with zero point + 128 are the same numbers. All are changed when one has to be,
    because kernels read and write one type.
    """
    if rules.signed_fuses or not any(_must_change(n, rules) for n in graph.nodes()):
        return []
    mended = []
    for quantize in graph.nodes("QuantizeLinear"):
        found = affine(quantize)
        if found is None or found.dtype is not DType.INT8:
            continue
        if not readers_are_dequantizers(quantize.outputs[0]):
            continue
        readers = [(n, affine(n)) for n in quantize.outputs[0].consumers]
        if any(p is None or p.dtype is not DType.INT8 for _, p in readers):
            continue
        for node, parameters in [(quantize, found), *readers]:
            if parameters is not None:
                _raise_zero(graph, node, parameters)
        mended.append(quantize)
    for dequantize in graph.nodes("DequantizeLinear"):
        if _is_signed_constant(dequantize):
            shift_constant(graph, dequantize, DType.UINT8)
            mended.append(dequantize)
    return mended


def _raise_zero(graph: Graph, node: Node, found: Affine) -> None:
    axis = None if found.is_scalar else found.axis
    set_parameters(graph, node, found.scale, found.zero + _SHIFT, DType.UINT8, axis)


def _must_change(node: Node, rules: Rules) -> bool:
    if is_quantize(node):
        found = affine(node)
        signed = found is not None and found.dtype is DType.INT8
        return signed and readers_of(node) > 1
    if not is_dequantize(node):
        return False
    found = affine(node)
    if found is None:
        return False
    return signed_with_several_readers(node, found, rules) or (
        _is_signed_constant(node) and any(n.op == "Gather" for n in node.outputs[0].consumers)
    )


def _is_signed_constant(dequantize: Node) -> bool:
    """Whether a DQ holds an int8 constant that is an activation: an operand, a table."""
    found = affine(dequantize)
    stored = stored_constant(dequantize)
    if found is None or stored is None or found.dtype is not DType.INT8:
        return False
    return found.is_scalar and not _is_weight(dequantize) and len(stored.uses) == 1


def shift_constant(graph: Graph, dequantize: Node, dtype: DType) -> None:
    """Store a constant behind a DQ as the other 8-bit type, with its zero point shifted alike."""
    found = affine(dequantize)
    stored = stored_constant(dequantize)
    assert found is not None
    assert stored is not None
    shift = _SHIFT if dtype is DType.UINT8 else -_SHIFT
    values = stored.array().astype(np.int64) + shift
    axis = None if found.is_scalar and not found.scale.ndim else found.axis
    zero = np.broadcast_to(found.zero, found.scale.shape) + shift
    set_constant(graph, dequantize, 0, values, dtype)
    set_parameters(graph, dequantize, found.scale, zero, dtype, axis)


def signed_weights(graph: Graph, rules: Rules) -> list[Node]:
    """Store uint8 weights as int8 where int8 activations meet them on Arm."""
    if not rules.signed_fuses:
        return []
    return _shift_weights(graph, DType.UINT8, DType.INT8, DType.INT8)


def unsaturated_weights(graph: Graph, rules: Rules) -> list[Node]:
    """Store int8 weights that could saturate 16 bits as uint8, whose kernel does not."""
    from graphopt.analysis.quantization.hazards import saturating_outputs

    if not rules.target.quantization.saturates:
        return []
    threatened = {n for n in graph.nodes(*HEAVY) if (saturating_outputs(n) or (0, 0))[0]}
    return _shift_weights(graph, DType.INT8, DType.UINT8, DType.UINT8, threatened)


def _shift_weights(
    graph: Graph, old: DType, new: DType, activation: DType, only: set[Node] | None = None
) -> list[Node]:
    mended = []
    for node in graph.nodes(*HEAVY):
        if only is not None and node not in only:
            continue
        source, weight = dequantizer(node.inputs[0]), dequantizer(node.inputs[1])
        if source is None or weight is None or stored_constant(weight) is None:
            continue
        one, other = affine(source), affine(weight)
        if one is None or other is None or other.dtype is not old or one.dtype is not activation:
            continue
        if len(weight.outputs[0].uses) == 1 and not other.block:
            shift_constant(graph, weight, new)
            mended.append(node)
    return mended


def moved_parameters(graph: Graph, rules: Rules) -> list[Node]:
    """Quantize what an operator only moves as its input is, where that represents no less.

    Leaves out one rounding. Where the range behind is narrower, it may be meant to clip, and stays.
    """
    mended = []
    for node in graph.nodes():
        source = dequantizer(node.inputs[0]) if node.inputs else None
        before = affine(source) if source is not None else None
        if rules.role(node) != "passthrough" or before is None or not before.is_scalar:
            continue
        for quantize in [n for v in node.outputs for n in v.consumers if is_quantize(n)]:
            after = affine(quantize)
            if after is None or after.same(before) or not _is_wider(after, before):
                continue
            if readers_are_dequantizers(quantize.outputs[0]):
                for each in (quantize, *quantize.outputs[0].consumers):
                    set_parameters(graph, each, before.scale, before.zero, before.dtype)
                mended.append(node)
    return mended


def _is_wider(after: Affine, before: Affine) -> bool:
    if not after.is_scalar or after.dtype is not before.dtype:
        return False
    slack = float(before.scale.reshape(-1)[0]) / 2
    return after.range[0] <= before.range[0] + slack and after.range[1] >= before.range[1] - slack


def zeros_behind_relu(graph: Graph, rules: Rules) -> list[Node]:
    """Put the zero point of a Q behind a Relu at the smallest integer, with the same scale.

    The steps stay where they are; values that saturated before are represented.
    """
    mended = []
    for quantize in graph.nodes("QuantizeLinear"):
        found = affine(quantize)
        source = quantize.inputs[0].producer if quantize.inputs[0] is not None else None
        if found is None or not found.is_scalar or found.dtype.bits != 8 or source is None:
            continue
        smallest = found.limits[0]
        if source.op != "Relu" or int(found.zero.reshape(-1)[0]) == smallest:
            continue
        if not readers_are_dequantizers(quantize.outputs[0]):
            continue
        for each in (quantize, *quantize.outputs[0].consumers):
            set_parameters(graph, each, found.scale, np.asarray(smallest), found.dtype)
        mended.append(quantize)
    return mended
