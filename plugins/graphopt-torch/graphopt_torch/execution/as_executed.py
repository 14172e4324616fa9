"""A graph with Q and DQ in which sums, products and means are those of the runtime's kernels.

Only what is computed changes, by the rounding errors of 32-bit floats; tensors keep their names,
and float tensors between DQ and Q can still be asked for. Convolutions and matrix products between
Q and DQ are left to ``integer_chains``, which finds them in each plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.quantization.pairs import (
    EIGHT_BITS,
    affine,
    dequantizer,
    is_quantize,
    is_redundant,
    tail,
)
from graphopt.types import DType
from graphopt_torch.execution.integer_kernels import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node, Value

_PRODUCTS = {"Gemm", "MatMul"}
_ROUNDED = {"Add": "QLinearAdd", "Mul": "QLinearMul", "AveragePool": "QLinearAveragePool"}


def as_executed(graph: Graph) -> Graph:
    """Return a copy of the graph to make a ``Program`` of, in which integer operators are exact.

    An Add, Mul or AveragePool that has all its inputs from DQ, and a Q behind it, becomes one
    operator on integers, as do products whose float output nobody quantizes. What the runtime
    computes in float stays. A graph without Q comes back as an equal copy.
    """
    made = graph.copy()
    for node in made.nodes():
        if node.domain or node.op not in {*_PRODUCTS, *_ROUNDED}:
            continue
        behind = tail(node)
        if node.op in _PRODUCTS:
            if not behind.quantized:
                _fuse_float(node)
        elif behind.is_clean and len(behind.quantized) == 1:
            quantize = behind.quantized[0]
            facts = affine(quantize)
            if facts is None or facts.dtype not in EIGHT_BITS or not facts.is_scalar:
                continue
            if behind.activation is not None and not is_redundant(behind.activation, facts):
                continue
            _fuse(node, quantize)
    if any(n.domain == DOMAIN for n in made.nodes()):
        made.opsets.setdefault(DOMAIN, 1)
    return made


def _fuse(node: Node, quantize: Node) -> None:
    operands = _operands(node)
    facts = affine(quantize)
    if operands is None or facts is None or len(quantize.inputs) < 3:
        return
    low, high = facts.limits
    for key in quantize.attribute_names:
        quantize.set_attribute(key, None)
    quantize.op, quantize.domain = _ROUNDED[node.op], DOMAIN
    _copy_attributes(node, quantize)
    quantize.set_attribute("low", int(low))
    quantize.set_attribute("high", int(high))
    quantize.set_inputs([*operands, *quantize.inputs[1:3]])


def _fuse_float(node: Node) -> None:
    operands, bias = _operands(node), _bias(node)
    if operands is None or bias is None:
        return
    node.op, node.domain = "QGemm", DOMAIN
    node.set_inputs([*operands, *bias])


def _copy_attributes(source: Node, node: Node) -> None:
    for attribute in source.attributes.values():
        node.put_attribute(attribute)


def _operands(node: Node) -> list[Value | None] | None:
    """Return integers, scale and zero point of each input, or None where one is not integer."""
    found: list[Value | None] = []
    for position, value in enumerate(node.inputs[:2]):
        source = dequantizer(value)
        facts = affine(source) if source is not None else None
        if source is None or facts is None or facts.dtype not in EIGHT_BITS or facts.block:
            return None
        weight = position == 1 and node.op in _PRODUCTS
        if len(source.inputs) < 3 or not (facts.is_scalar or weight):
            return None
        if weight and not facts.is_scalar and not _is_per_output(node, source):
            return None
        found += source.inputs[:3]
    if node.op == "AveragePool" and not _is_simple_pool(node):
        return None
    return found if _alpha(node) else None


def _alpha(node: Node) -> bool:
    plain = all(node.attribute(k, 1.0) == 1.0 for k in ("alpha", "beta"))
    return node.op != "Gemm" or (plain and not node.attribute("transA", 0))


def _is_per_output(node: Node, weight: Node) -> bool:
    facts, stored = affine(weight), weight.inputs[0]
    if facts is None or stored is None or stored.shape is None:
        return False
    rank = len(stored.shape)
    return rank == 2 and facts.axis % 2 == (0 if node.attribute("transB", 0) else 1)


def _is_simple_pool(node: Node) -> bool:
    dilated = any(d != 1 for d in node.attribute("dilations", []))
    return not dilated and not node.attribute("ceil_mode", 0)


def _bias(node: Node) -> list[Value] | None:
    """Return the integers of the bias if there is one; None where it is no int32."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return []
    source = dequantizer(value)
    stored = source.inputs[0] if source is not None else None
    return [stored] if stored is not None and stored.dtype is DType.INT32 else None


def quantized_tensors(graph: Graph) -> Sequence[str]:
    """Return the names of the integers that the Q of a graph write, in the order of the graph."""
    return [n.outputs[0].name for n in graph.nodes() if is_quantize(n)]
