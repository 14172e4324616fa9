"""What onnxruntime does to any graph when it loads it: constant shapes, equal operators merged."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import integers, only_consumer, static_shape
from graphopt.analysis.symbols import Symbols
from graphopt.cost.qdq import absorbing_quantize
from graphopt.ir import infer_shapes
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value

_DIFFERENT = frozenset(
    {"Bernoulli", "DequantizeLinear", "Multinomial", "QuantizeLinear", "RandomNormal",
     "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)  # fmt: skip
"""Operators that are not merged: the runtime gives every reader a Q or DQ of its own."""

_OPEN = "graphopt_open_length"
"""Attribute of products in copies of a model that are only looked at."""

_MOVERS = frozenset({"MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_INTEGER_POOL = 12
"""Operator set from which MaxPool takes integers."""

_SHARED_SIZE = 16
"""Constants of at most so many elements count as equal when their values are."""


def prepare(graph: Graph) -> None:
    """Simplify a graph in place as the runtime does before it fuses anything.

    What is computed from lengths that no input leaves open becomes constant; of operators that
    compute the same, one is left; a Reshape that computes its target from its own input's lengths
    has it fixed; what only moves data before a Q moves integers.
    """
    _fold_shapes(graph)
    _merge_equal(graph)
    _fix_targets(graph)
    if graph.nodes("QuantizeLinear", "DequantizeLinear"):
        _quantize_earlier(graph)
        _drop_absorbed(graph)
        _dequantize_later(graph)
        graph.sort()


def has_open_length(node: Node) -> bool:
    """Whether a product was marked because the length of its first operand is open."""
    return bool(node.attribute(_OPEN, 0))


def _mark_open(graph: Graph) -> None:
    """Mark products with open lengths: sizes are put in their place, the runtime has none."""
    for node in graph.nodes("MatMul"):
        if static_shape(node.inputs[0]) is None:
            node.set_attribute(_OPEN, 1)


def _fold_shapes(graph: Graph) -> None:
    open_inputs = any(not isinstance(d, int) for v in graph.inputs for d in v.shape or ())
    if not graph.nodes("Shape") and not (open_inputs and graph.nodes("MatMul")):
        return
    asked = [n.inputs[0] for n in graph.nodes("Shape", "MatMul")]
    if any(v is None or v.shape is None for v in asked):
        with contextlib.suppress(Exception):
            infer_shapes(graph)
    if open_inputs:
        _mark_open(graph)
    for value, given in list(Symbols(graph).computed()) if graph.nodes("Shape") else ():
        numbers = [d for d in given if isinstance(d, int)]
        rank = None if value.shape is None else len(value.shape)
        if len(numbers) < len(given) or value.is_output or rank not in {0, 1}:
            continue
        held = np.array(numbers, np.int32 if value.dtype is DType.INT32 else np.int64)
        known = graph.add_constant(value.name, held if rank else held.reshape(()))
        node = value.producer
        graph.replace_uses(value, known)
        if node is not None and len(node.outputs) == 1:
            graph.remove(node)


def _merge_equal(graph: Graph) -> None:
    """Let one node serve for all that have its operator, attributes and inputs."""
    seen: dict[tuple[Any, ...], Node] = {}
    for node in graph.nodes():
        first = node.inputs[0] if node.inputs else None
        if first is None or len(first.uses) < 2 or not _may_merge(node):
            continue
        key = _key(node)
        if key is None:
            continue
        kept = seen.setdefault(key, node)
        if kept is not node:
            for own, other in zip(node.outputs, kept.outputs, strict=True):
                graph.replace_uses(own, other)
            graph.remove(node)


def _may_merge(node: Node) -> bool:
    fixed = node.op in _DIFFERENT or node.subgraphs or any(v.is_output for v in node.outputs)
    return not fixed and any(v.uses for v in node.outputs)


def _key(node: Node) -> tuple[Any, ...] | None:
    """Return what two nodes share when they compute the same; None where that is hard to say."""
    attributes: list[tuple[str, Any]] = []
    for name in sorted(node.attribute_names):
        value = node.attribute(name)
        if not isinstance(value, (int, float, str, bytes, list, tuple)):
            return None
        attributes.append((name, tuple(value) if isinstance(value, list) else value))
    inputs = tuple(_input_key(v) for v in node.inputs)
    return (node.op, node.domain, inputs, tuple(attributes), len(node.outputs))


def _input_key(value: Value | None) -> Any:
    tensor = value.tensor if value is not None else None
    if tensor is None or tensor.size > _SHARED_SIZE or tensor.dtype is DType.STRING:
        return value
    return (tensor.dtype, tuple(tensor.shape), tensor.array().tobytes())


def _fix_targets(graph: Graph) -> None:
    """Fix the target of each Reshape that takes lengths of its input to where they come from."""
    for node in graph.nodes("Reshape"):
        joined = node.inputs[1].producer if node.inputs[1] is not None else None
        if joined is None or joined.op != "Concat" or joined.outputs[0].is_output:
            continue
        target = [_fixed_length(v, node, place) for place, v in enumerate(joined.inputs)]
        if None in target or target.count(-1) > 1:
            continue
        known = graph.add_constant(f"{joined.outputs[0].name}_fixed", np.array(target, np.int64))
        node.set_input(1, known)
        _remove_unused(graph, joined)


def _fixed_length(value: Value | None, reshape: Node, place: int) -> int | None:
    """Return a number of a target: known, or 0 for the length of the input at the same place."""
    known = integers(value)
    if known is not None:
        return known[0] if len(known) == 1 else None
    steps = []
    for op in ("Unsqueeze", "Gather", "Shape"):
        node = value.producer if value is not None else None
        if node is None or node.op != op:
            return None
        steps.append(node)
        value = node.inputs[0]
    index = integers(steps[1].inputs[1])
    same = _stored(value) is _stored(reshape.inputs[0])
    return 0 if same and index == [place] else None


def _stored(value: Value | None) -> Value | None:
    """Return the tensor that is given in Q and DQ."""
    while value is not None and value.producer is not None:
        if value.producer.op not in {"QuantizeLinear", "DequantizeLinear"}:
            break
        value = value.producer.inputs[0]
    return value


def _quantize_earlier(graph: Graph) -> None:
    """Put Q and DQ before an operator that moves floats into a Q, as onnxruntime does."""
    for quantize in reversed(graph.nodes("QuantizeLinear")):
        value = quantize.inputs[0]
        while value is not None and (node := _mover(value)) is not None:
            source = node.inputs[0]
            if source is None or source.is_constant or _is_dequantized(source):
                break
            made = [graph.new_value(graph.unique_name(f"{value.name}_{k}")) for k in ("q", "dq")]
            made[0].dtype, made[0].shape = quantize.outputs[0].dtype, source.shape
            made[1].dtype, made[1].shape = source.dtype, source.shape
            graph.add_node("QuantizeLinear", [source, *quantize.inputs[1:]], [made[0]])
            graph.add_node("DequantizeLinear", [made[0], *quantize.inputs[1:]], [made[1]])
            node.set_input(0, made[1])
            value = source


def _dequantize_later(graph: Graph) -> None:
    """Put Q and DQ behind an operator that moves what a DQ gives it, as onnxruntime does."""
    for given in graph.nodes("DequantizeLinear"):
        dequantize, node = given, only_consumer(given.outputs[0])
        while node is not None and _moves_on(node, dequantize):
            value = node.outputs[0]
            made = [graph.new_value(graph.unique_name(f"{value.name}_{k}")) for k in ("q", "dq")]
            stored = dequantize.inputs[0]
            made[0].dtype, made[0].shape = stored.dtype if stored is not None else None, value.shape
            made[1].dtype, made[1].shape = value.dtype, value.shape
            graph.replace_uses(value, made[1])
            graph.add_node("QuantizeLinear", [value, *dequantize.inputs[1:]], [made[0]])
            dequantize = graph.add_node(
                "DequantizeLinear", [made[0], *dequantize.inputs[1:]], [made[1]]
            )
            node = only_consumer(made[1])


def _moves_on(node: Node, dequantize: Node) -> bool:
    """Whether an operator moves the result of a DQ per tensor to readers that want floats."""
    scale, value = dequantize.inputs[1], node.outputs[0]
    whole = scale is not None and scale.is_constant and scale.shape in {(), (1,)}
    newest = node.op != "MaxPool" or node.graph.opset >= _INTEGER_POOL
    if not whole or node.op not in _MOVERS or node.domain != "" or not newest:
        return False
    wanted = [reader.op for reader in value.consumers]
    return bool(wanted) and not value.is_output and "QuantizeLinear" not in wanted


def _drop_absorbed(graph: Graph) -> None:
    """Drop each Relu and Clip that the range of the Q behind it makes do nothing."""
    for node in graph.nodes("Relu", "Clip"):
        source = node.inputs[0]
        if absorbing_quantize(node) is not None and source is not None:
            graph.replace_uses(node.outputs[0], source)
            graph.remove(node)


def _mover(value: Value) -> Node | None:
    """Return what makes a tensor that one Q reads when it only moves data."""
    node = value.producer
    if node is None or node.domain != "" or only_consumer(value) is None:
        return None
    newest = node.op != "MaxPool" or node.graph.opset >= _INTEGER_POOL
    return node if node.op in _MOVERS and newest else None


def _is_dequantized(value: Value) -> bool:
    return value.producer is not None and value.producer.op == "DequantizeLinear"


def _remove_unused(graph: Graph, node: Node) -> None:
    """Remove a node whose results nobody reads, and then those that only served it."""
    if any(v.uses or v.is_output for v in node.outputs):
        return
    before = [v.producer for v in node.inputs if v is not None and v.producer is not None]
    graph.remove(node)
    for one in dict.fromkeys(before):
        _remove_unused(graph, one)
