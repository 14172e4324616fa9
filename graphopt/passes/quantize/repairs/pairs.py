"""Remove Q and DQ that only round or stand in the way, and add those that follow from others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.quantization import (
    affine,
    dequantizer,
    is_dequantize,
    is_quantize,
    quantizer_behind,
    stored_constant,
)
from graphopt.analysis.quantization.leftovers import pair_is_idle
from graphopt.analysis.quantization.operators import HEAVY
from graphopt.passes.quantize.repairs.edit import drop_unread

if TYPE_CHECKING:
    from graphopt.analysis.quantization import Rules
    from graphopt.ir import Graph, Node

_LONGEST_WALK = 16


def integer_clips(graph: Graph, rules: Rules) -> list[Node]:
    """Remove a Clip of integers between Q and DQ; constants are clipped for good."""
    mended = []
    for clip in graph.nodes("Clip"):
        first = clip.inputs[0] if clip.inputs else None
        quantize = first.producer if first is not None else None
        readers = clip.outputs[0].consumers
        if first is None or not is_quantize(quantize) or not readers:
            continue
        if clip.outputs[0].is_output or not all(is_dequantize(n) for n in readers):
            continue
        graph.replace_uses(clip.outputs[0], first)
        drop_unread(graph, clip)
        mended.append(readers[0])
    return mended


def same_again(graph: Graph, rules: Rules) -> list[Node]:
    """Join DQ and the Q behind it where both have the same parameters: the integers stay."""
    mended = []
    for quantize in graph.nodes("QuantizeLinear"):
        source = dequantizer(quantize.inputs[0])
        stored = source.inputs[0] if source is not None else None
        if source is None or stored is None or stored.is_constant:
            continue
        before, after = affine(source), affine(quantize)
        if before is None or after is None or not before.is_scalar or not before.same(after):
            continue
        if quantize.outputs[0].is_output or source.graph is not graph:
            continue
        graph.replace_uses(quantize.outputs[0], stored)
        mended.append(source)
        drop_unread(graph, quantize)
    return mended


def idle_pairs(graph: Graph, rules: Rules) -> list[Node]:
    """Remove a Q and its DQ that stand between float operators; leaves out one rounding."""
    mended: list[Node] = []
    for dequantize in graph.nodes("DequantizeLinear"):
        quantize = quantizer_behind(dequantize)
        value = quantize.inputs[0] if quantize is not None else None
        if value is None or dequantize.outputs[0].is_output or not pair_is_idle(dequantize, rules):
            continue
        readers = dequantize.outputs[0].consumers
        graph.replace_uses(dequantize.outputs[0], value)
        drop_unread(graph, dequantize)
        mended += readers[:1]
    return mended


def moved_outputs(graph: Graph, rules: Rules) -> list[Node]:
    """Add Q and DQ behind operators that move integers to a product which waits for them.

    What is moved lies on the steps of its source already, so that the pair changes no number.
    """
    mended = []
    for node in graph.nodes(*HEAVY):
        if len(node.inputs) < 2 or dequantizer(node.inputs[0]) is not None:
            continue
        if dequantizer(node.inputs[1]) is None:
            continue
        chain = _moves_before(node, rules)
        for mover in chain:
            _quantize_as_input(graph, mover)
        mended += chain
    if mended:
        graph.sort()
    return mended


def _moves_before(node: Node, rules: Rules) -> list[Node]:
    """Return the movers between a DQ and the product, first one first; empty without a DQ."""
    chain: list[Node] = []
    value = node.inputs[0]
    for _ in range(_LONGEST_WALK):
        mover = value.producer if value is not None else None
        if mover is None or mover.graph is not node.graph or len(mover.outputs) != 1:
            return []
        if is_dequantize(mover):
            found = affine(mover)
            scalar = found is not None and found.is_scalar and found.has_zero
            return chain[::-1] if scalar and stored_constant(mover) is None else []
        if rules.role(mover) != "passthrough" or rules.bar(mover) is not None:
            return []
        if mover.outputs[0].is_output or any(is_quantize(n) for n in mover.outputs[0].consumers):
            return []
        chain.append(mover)
        value = mover.inputs[0]
    return []


def _quantize_as_input(graph: Graph, mover: Node) -> None:
    source = dequantizer(mover.inputs[0])
    assert source is not None
    output = mover.outputs[0]
    uses = output.uses
    quantize = graph.add_node(
        "QuantizeLinear",
        [output, *source.inputs[1:3]],
        [graph.unique_name(f"{output.name}_quantized")],
        name=f"QuantizeLinear_{output.name}",
    )
    stored = quantize.outputs[0]
    stored.dtype = source.inputs[0].dtype if source.inputs[0] is not None else None
    made = graph.add_node(
        "DequantizeLinear",
        [stored, *source.inputs[1:3]],
        [graph.unique_name(f"{output.name}_dequantized")],
        name=f"DequantizeLinear_{output.name}",
    )
    made.outputs[0].dtype, made.outputs[0].shape = output.dtype, output.shape
    for reader, index in uses:
        reader.set_input(index, made.outputs[0])


def own_dequantizers(graph: Graph, rules: Rules) -> list[Node]:
    """Give each product a DQ of its own for a weight that several read; the integers stay one."""
    mended = []
    for node in graph.nodes(*HEAVY):
        source = dequantizer(node.inputs[1]) if len(node.inputs) > 1 else None
        if source is None or stored_constant(source) is None:
            continue
        if len(source.outputs[0].uses) < 2 or dequantizer(node.inputs[0]) is not None:
            continue
        copy = graph.add_copy(source, f"{source.name}_{node.label}")
        node.set_input(1, copy.outputs[0])
        mended.append(node)
    if mended:
        graph.sort()
    return mended


def protected(graph: Graph, rules: Rules) -> list[Node]:
    """Keep float what the runtime would quantize at load: a DQ with a vector of equal scales."""
    from graphopt.analysis.quantization.hazards import REQUANTIZED, is_requantized

    mended = []
    for node in graph.nodes(*sorted(REQUANTIZED)):
        if not is_requantized(node):
            continue
        source = dequantizer(node.inputs[0])
        found = affine(source) if source is not None else None
        channels = _channels(node)
        if source is None or found is None or channels is None:
            continue
        stored = source.inputs[0]
        name = source.outputs[0].name
        scale = np.full(channels, found.scale.reshape(-1)[0], found.scale.dtype)
        zero = np.full(channels, found.zero.reshape(-1)[0], found.dtype.name.lower())
        made = graph.add_node(
            "DequantizeLinear",
            [
                stored,
                graph.add_constant(f"{name}_scales", scale),
                graph.add_constant(f"{name}_zero_points", zero),
            ],
            [graph.unique_name(f"{name}_per_channel")],
            {"axis": 1},
            name=f"DequantizeLinear_{name}_for_{node.label}",
        )
        made.outputs[0].dtype = source.outputs[0].dtype
        made.outputs[0].shape = source.outputs[0].shape
        node.set_input(0, made.outputs[0])
        drop_unread(graph, source)
        mended.append(node)
    if mended:
        graph.sort()
    return mended


def _channels(node: Node) -> int | None:
    """Return the size of axis 1 of the input, from its shape or from the weight."""
    value, weight = node.inputs[0], node.inputs[1]
    shape = value.shape if value is not None else None
    if shape is not None and len(shape) > 1 and isinstance(shape[1], int):
        return shape[1]
    if weight is None or weight.shape is None:
        return None
    if node.op == "Conv":
        return int(weight.array().shape[1]) * int(node.attribute("group", 1))
    if node.op == "ConvTranspose":
        return int(weight.array().shape[0])
    if node.attribute("transA", 0):
        return None
    return int(weight.array().shape[1 if node.attribute("transB", 0) else 0])
