"""Operators that stay float although they could be integer, because float is faster there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.passes.quantize.qdq.operands import multiplies_activations

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from graphopt.ir import Graph, Node

_GATES = frozenset({"HardSigmoid", "LeakyRelu", "Mul", "Sigmoid", "Softmax", "Tanh", "Where"})
"""Residual Adds, poolings and Concat are not among them: in float they break islands up."""

_ON_THE_WAY = frozenset(
    {"Add", "Div", "Mul", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "Where"}
)
"""What scales, masks, shifts and divides the result of a product before Softmax or a gate."""

_GELU = "its Gelu is one operator in float"
_NORM = "its normalization is one operator in float"
_RETURNS_FLOATS = "the product before it returns floats, and in float it is more precise"
_GATE = "elementwise operators are left in float"
_ATTENTION = "both operands are activations"
_LONGEST_WAY = 12


def kept_in_float(graph: Graph, *, gates: bool, attention: bool) -> dict[Node, str]:
    """Return the operators that are not to be integer, with the reason.

    Integer matrix products return floats at no cost. So Softmax and Sigmoid behind them, and what
    multiplies with those, gain nothing by being integer: a transformer with them in float is as
    fast, and 4 to 8 dB more precise (measured on two-layer ones of 64 and 197 tokens). The gates of
    recurrent cells are such operators too, and their states carry errors on.

    Args:
        graph: what is to be quantized.
        gates: leave activations and gates in float, wherever they are.
        attention: leave products of two activations in float.
    """
    kept: dict[Node, str] = {}
    for node in graph.nodes():
        if node.op == "Erf":
            kept |= dict.fromkeys(_gelu_around(node), _GELU)
        elif node.op == "Sqrt" and _follows_mean(node):
            kept |= dict.fromkeys(_chain(node, {"Add", "Div", "Mul", "Reciprocal"}, 4), _NORM)
        elif node.op in {"Sigmoid", "Softmax", "Tanh"} and _comes_from_product(node):
            kept[node] = _RETURNS_FLOATS
        elif node.op in {"Add", "Mul"} and _follows_kept(node, kept):
            kept.setdefault(node, _RETURNS_FLOATS)
        elif node.op == "MatMul" and attention and multiplies_activations(node):
            kept[node] = _ATTENTION
        if gates and node.op in _GATES:
            kept.setdefault(node, _GATE)
    return kept


def _follows_kept(node: Node, kept: Mapping[Node, str]) -> bool:
    """Whether a Mul reads, or an Add reads nothing but, what is kept in float."""
    producers = [v.producer for v in node.inputs if v is not None and not v.is_constant]
    found = [p is not None and kept.get(p) == _RETURNS_FLOATS for p in producers]
    return any(found) if node.op == "Mul" else bool(found) and all(found)


def _gelu_around(erf: Node) -> set[Node]:
    """Return the operators of 0.5 x (1 + erf(x / sqrt(2))), in whatever order they are."""
    found: set[Node] = {erf}
    before = erf.inputs[0].producer if erf.inputs[0] is not None else None
    if before is not None and before.op in {"Div", "Mul"}:
        found.add(before)
        source = before.inputs[0]
        # Some spellings halve x on a branch of its own.
        readers = source.consumers if source is not None else ()
        found |= {n for n in readers if n.op == "Mul"}
    return found | _chain(erf, {"Add", "Mul"}, 3)


def _follows_mean(root: Node) -> bool:
    """Whether the square root is that of a variance: ReduceMean, then perhaps Add of epsilon."""
    value = root.inputs[0]
    for _ in range(2):
        producer = value.producer if value is not None else None
        if producer is None or producer.op not in {"Add", "ReduceMean"}:
            return False
        if producer.op == "ReduceMean":
            return True
        value = next((v for v in producer.inputs if v is not None and not v.is_constant), None)
    return False


def _chain(node: Node, ops: AbstractSet[str], longest: int) -> set[Node]:
    """Return the operators behind the node, one reader each, while they are among ``ops``."""
    found: set[Node] = set()
    while len(found) < longest:
        after = node.outputs[0].consumers
        if len(after) != 1 or after[0].op not in ops:
            break
        node = after[0]
        found.add(node)
    return found


def _comes_from_product(node: Node) -> bool:
    """Whether a MatMul, then scaled, shifted or masked, makes what the node reads."""
    stack, seen = list(node.inputs), 0
    while stack and seen < _LONGEST_WAY:
        seen += 1
        value = stack.pop()
        producer = value.producer if value is not None else None
        if producer is None:
            continue
        if producer.op in {"Gemm", "MatMul"}:
            return True
        if producer.op in _ON_THE_WAY:
            stack += producer.inputs
    return False
