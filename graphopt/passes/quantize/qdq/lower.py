"""Write operators that have no integer kernel as others that have one.

An integer says nothing about its scale: what Q writes and what DQ reads may be called differently.
- HardSigmoid, clip(a x + b, 0, 1) = a clip(x + b/a, 0, 1/a): an integer Add of b/a whose output
  saturates at 0 and 1/a; the DQ after it has a times the scale.
- Tanh, tanh(x) = 2 sigmoid(2 x) - 1: an integer Sigmoid that reads x at twice its scale; the DQ
  after it has twice the scale of its output, and the middle as zero point.
- Mul by a positive number: the DQ after it has that times the scale; nothing is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.targets.fusion import FusionRule
from graphopt.types import DType, QuantParams

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.quantize.qdq.placement import Unit
    from graphopt.targets.base import QuantizationRules
    from graphopt.targets.fusion import FusionTable

_WRITTEN_AS = {"HardSigmoid": "Add", "Tanh": "Sigmoid"}
_STEPS = 255


def rule_for(node: Node, table: FusionTable) -> FusionRule | None:
    """Return the rule of the operator, or of what it is written as; None where it is float."""
    rule = table.rule(node.op, node.domain)
    if rule is None:
        other = table.rule(_WRITTEN_AS.get(node.op, ""), node.domain)
        if other is None or (node.op == "HardSigmoid" and _slope(node) <= 0.0):
            return None
        return FusionRule(node.op, other.role, other.kernel, other.min_opset)
    if scale_factor(node) is not None:
        return FusionRule(node.op, "passthrough", "", rule.min_opset)
    return rule


def is_lowered(node: Node) -> bool:
    """Whether the operator between DQ and Q is not yet what it will be."""
    return node.domain == "" and (node.op in _WRITTEN_AS or scale_factor(node) is not None)


def scale_factor(node: Node) -> float | None:
    """Return the positive number that a Mul multiplies with, where it is one."""
    if node.op != "Mul" or node.domain:
        return None
    constants = [v for v in node.inputs if v is not None and v.is_constant]
    if len(constants) != 1 or constants[0].dtype is not DType.FLOAT:
        return None
    tensor = constants[0].tensor
    # A constant of higher rank than the other operand would raise the rank of the result.
    if tensor is None or tensor.shape not in {(), (1,)}:
        return None
    factor = float(constants[0].array().reshape(-1)[0])
    other = next((v for v in node.inputs if v is not constants[0]), None)
    if tensor.shape and (other is None or not other.shape):
        return None
    return factor if 1e-20 < factor < 1e20 else None


def fixed_params(node: Node, rules: QuantizationRules) -> QuantParams | None:
    """Return the parameters with which the output of a lowered operator must be read."""
    if rules.is_wide:
        return None
    dtype = DType.UINT8 if rules.activations == "uint8" else DType.INT8
    lowest = _lowest(rules)
    if node.domain == "" and node.op == "HardSigmoid":
        return QuantParams((float(np.float32(1.0 / _STEPS)),), (lowest,), dtype)
    if node.domain == "" and node.op == "Tanh":
        return QuantParams((1.0 / 128.0,), (lowest + 128,), dtype)
    return None


def lower(graph: Graph, units: Iterable[Unit], rules: QuantizationRules) -> int:
    """Rewrite the units whose operator has no integer kernel of its own; return how many."""
    lowered = 0
    for unit in list(units):
        node = unit.node
        if not is_lowered(node) or (rules.is_wide and scale_factor(node) is None):
            continue  # nothing computes 16 bits yet, so that nothing is written for it
        lowered += 1
        if node.op == "HardSigmoid":
            _as_add(graph, node, rules)
        elif node.op == "Tanh":
            _as_sigmoid(graph, node, rules)
        else:
            _as_scale(graph, node)
    if lowered:
        graph.sort()
    return lowered


def _lowest(rules: QuantizationRules) -> int:
    return 0 if rules.activations == "uint8" else -128


def _slope(node: Node) -> float:
    return float(node.attribute("alpha", 0.2))


def _as_add(graph: Graph, node: Node, rules: QuantizationRules) -> None:
    slope, offset = _slope(node), float(node.attribute("beta", 0.5))
    dequantize = _producer(node)
    kind = np.uint8 if rules.activations == "uint8" else np.int8
    # One integer step of ``size`` away from the zero point: any offset is exact.
    name, size = node.outputs[0].name, offset / slope
    stored = graph.add_constant(f"{name}_offset", np.array(_lowest(rules) + (size > 0), kind))
    scale = graph.add_constant(f"{name}_offset_scale", np.array(abs(size) or 1.0, np.float32))
    zero = graph.add_constant(
        f"{name}_offset_zero_point", np.array(_lowest(rules) + (size < 0), kind)
    )
    constant = graph.add_node(
        "DequantizeLinear", [stored, scale, zero], 1, name=f"DequantizeLinear_{name}_offset"
    )
    node.op = "Add"
    for attribute in ("alpha", "beta"):
        node.set_attribute(attribute, None)
    node.set_inputs([dequantize.outputs[0], constant.outputs[0]])
    _write_with(graph, node, 1.0 / slope / _STEPS, rules)


def _as_sigmoid(graph: Graph, node: Node, rules: QuantizationRules) -> None:
    dequantize = _producer(node)
    node.op = "Sigmoid"
    node.set_input(0, _read_scaled(graph, dequantize, 2.0))
    _drop(graph, dequantize)
    _write_with(graph, node, 1.0 / 256.0, rules)


def _as_scale(graph: Graph, node: Node) -> None:
    """Let the readers of the product read its source; their DQ has the product's scale already."""
    index = next(i for i, v in enumerate(node.inputs) if v is not None and not v.is_constant)
    dequantize, quantize = _producer(node, index), _following(node)
    stored = dequantize.inputs[0]
    assert stored is not None
    graph.replace_uses(quantize.outputs[0], stored)
    for gone in (quantize, node, dequantize):
        _drop(graph, gone)


def _read_scaled(graph: Graph, dequantize: Node, factor: float) -> Value:
    stored, scale, zero = dequantize.inputs
    assert scale is not None
    name = f"{dequantize.outputs[0].name}_scaled"
    wider = np.asarray(scale.array() * np.float32(factor), dtype=np.float32)
    made = graph.add_node(
        "DequantizeLinear",
        [stored, graph.add_constant(f"{name}_scale", wider), zero],
        [graph.unique_name(name)],
        name=f"DequantizeLinear_{name}",
    )
    return made.outputs[0]


def _write_with(graph: Graph, node: Node, scale: float, rules: QuantizationRules) -> None:
    """Let the Q after the node write with another scale and the lowest zero point."""
    quantize = _following(node)
    name = quantize.outputs[0].name
    kind = np.uint8 if rules.activations == "uint8" else np.int8
    quantize.set_input(1, graph.add_constant(f"{name}_scale", np.array(scale, np.float32)))
    quantize.set_input(2, graph.add_constant(f"{name}_zero_point", np.array(_lowest(rules), kind)))


def _producer(node: Node, index: int = 0) -> Node:
    value = node.inputs[index]
    assert value is not None
    assert value.producer is not None
    return value.producer


def _following(node: Node) -> Node:
    return next(n for n in node.outputs[0].consumers if n.op == "QuantizeLinear")


def _drop(graph: Graph, node: Node) -> None:
    if not any(v.uses or v.is_output for v in node.outputs):
        graph.remove(node)
