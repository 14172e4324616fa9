"""Pad the channels of integer convolutions to what the runtime's fast kernel takes.

onnxruntime's x86 kernel for symmetric weights (ConvSym: no im2col, no 32-bit buffer) takes input
channels in blocks of 4 and output channels in blocks of 4 from 16 on; other counts run through a
general product, however small. Zero channels change nothing in the result: they are added to the
integers between Q and DQ, and cut off again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.patterns.building import replace_constant
from graphopt.passes.quantize.qdq.border import reads_at_border
from graphopt.passes.quantize.qdq.placement import REARRANGING
from graphopt.passes.quantize.qdq.unfold import unfold_stem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Graph, Node
    from graphopt.targets.base import QuantizationRules

    Array = np.ndarray[Any, Any]


def align_convolutions(graph: Graph, units: Iterable[Node], rules: QuantizationRules) -> int:
    """Pad thin first and last convolutions among the integer operators; return how many.

    Only where Q stands at the border of an island is a Pad worth its time; only an output that
    leaves the island is cut.
    """
    members = frozenset(units)
    changed = 0
    for node in units:
        if node.op != "Conv" or node.attribute("group", 1) != 1:
            continue
        padded_input = unfold_stem(graph, node, rules.input_block) or _align_input(
            graph, node, rules.input_block
        )
        padded_output = _align_output(graph, node, rules, members)
        changed += padded_input or padded_output
    if changed:
        graph.sort()
    return changed


def _align_input(graph: Graph, node: Node, block: int) -> bool:
    dequantize = _producer(node, 0)
    weight = _producer(node, 1)
    if not reads_at_border(dequantize):
        return False
    channels = _stored(weight).shape[1]
    missing = -channels % block
    if not missing:
        return False
    widths = np.zeros((_stored(weight).ndim, 2), dtype=np.int64)
    widths[1, 1] = missing
    stored = dequantize.inputs[0]
    assert stored is not None
    pad = graph.add_node(
        "Pad",
        [
            stored,
            graph.add_constant(f"{stored.name}_pads", widths.T.reshape(-1)),
            dequantize.inputs[2],
        ],
        [graph.unique_name(f"{stored.name}_padded")],
        name=f"Pad_{stored.name}_{node.label}",
    )
    own = graph.add_node(
        "DequantizeLinear",
        [pad.outputs[0], *dequantize.inputs[1:]],
        [graph.unique_name(f"{stored.name}_padded_dequantized")],
        name=f"DequantizeLinear_{pad.name}",
    )
    node.set_input(0, own.outputs[0])
    _drop(graph, dequantize)
    _replace_weight(graph, weight, np.pad(_stored(weight), [*widths.tolist()]))
    return True


def _align_output(
    graph: Graph, node: Node, rules: QuantizationRules, units: frozenset[Node]
) -> bool:
    quantize = _following_q(node)
    weight = _producer(node, 1)
    channels = _stored(weight).shape[0]
    block = rules.output_block
    wanted = max(-(-channels // block) * block, rules.output_minimum)
    if quantize is None or wanted == channels or not _leaves_island(quantize, units):
        return False
    missing = wanted - channels
    rank = _stored(weight).ndim
    _replace_weight(graph, weight, np.pad(_stored(weight), [(0, missing), *[(0, 0)] * (rank - 1)]))
    _widen_scales(graph, weight, missing, 1.0)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _producer(node, 2)
        scale = dequantize_scale(_producer(node, 0))
        _replace_weight(graph, bias, np.pad(_stored(bias), (0, missing)))
        _widen_scales(graph, bias, missing, scale)
    stored = quantize.outputs[0]
    readers = stored.uses
    bounds = [
        graph.add_constant(f"{stored.name}_{name}", np.array([value], dtype=np.int64))
        for name, value in (("starts", 0), ("ends", channels), ("axes", 1))
    ]
    cut = graph.add_node(
        "Slice",
        [stored, *bounds],
        [graph.unique_name(f"{stored.name}_cut")],
        name=f"Slice_{stored.name}",
    )
    for reader, index in readers:
        reader.set_input(index, cut.outputs[0])
    for value in (node.outputs[0], quantize.inputs[0]):
        # The declared channel count no longer holds between the convolution and the cut.
        if value is not None:
            value.shape, value.source = None, None
    return True


def _following_q(node: Node) -> Node | None:
    output = node.outputs[0]
    while len(output.uses) == 1 and not output.is_output:
        reader = output.consumers[0]
        if reader.op == "QuantizeLinear":
            return reader
        if reader.op not in {"Relu", "Clip"}:
            return None
        output = reader.outputs[0]
    return None


def _leaves_island(quantize: Node, units: frozenset[Node]) -> bool:
    """Whether no integer operator reads what was quantized here, but to rearrange it."""
    return not any(
        reader in units and reader.op not in REARRANGING
        for dequantize in quantize.outputs[0].consumers
        for reader in dequantize.outputs[0].consumers
    )


def _producer(node: Node, index: int) -> Node:
    value = node.inputs[index]
    assert value is not None
    assert value.producer is not None
    return value.producer


def _stored(dequantize: Node) -> Array:
    value = dequantize.inputs[0]
    assert value is not None
    return value.array()


def dequantize_scale(dequantize: Node) -> float:
    """Return the scale of a per-tensor DequantizeLinear."""
    scale = dequantize.inputs[1]
    assert scale is not None
    return float(scale.array().reshape(-1)[0])


def _replace_weight(graph: Graph, dequantize: Node, values: Array) -> None:
    replace_constant(graph, dequantize, 0, values, "aligned")


def _widen_scales(graph: Graph, dequantize: Node, missing: int, scale: float) -> None:
    scales, zeros = dequantize.inputs[1], dequantize.inputs[2]
    assert scales is not None
    assert zeros is not None
    if not scales.array().ndim:
        return
    wide = np.pad(scales.array(), (0, missing), constant_values=np.float32(scale))
    replace_constant(graph, dequantize, 1, wide, "aligned")
    replace_constant(graph, dequantize, 2, np.pad(zeros.array(), (0, missing)), "aligned")


def _drop(graph: Graph, node: Node) -> None:
    if not any(v.uses or v.is_output for v in node.outputs):
        graph.remove(node)
