"""Evaluate arithmetic on shapes as far as dimensions are known.

Exporters compute sizes from the shapes of tensors with Shape, Gather, Div, Concat and the like. A
dimension is an integer, a symbol that is carried along, or None; what is computed from a symbol is
None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node, Value
    from graphopt.types import Dim

Sizes = tuple["Dim", ...]
"""The elements of a tensor of rank 0 or 1."""

_LONGEST = 64
_INTEGERS = frozenset({DType.INT64, DType.INT32})


def known_sizes(graph: Graph) -> dict[Value, Sizes]:
    """Return what is known of every small integer tensor that is computed from shapes.

    Args:
        graph: with types inferred, in topological order.
    """
    known: dict[Value, Sizes] = {}
    for node in graph.nodes():
        rule = _RULES.get(node.op) if node.domain == "" else None
        if rule is None or not node.inputs:
            continue
        found = rule(node, known)
        if found is not None and len(found) <= _LONGEST:
            known[node.outputs[0]] = found
    return known


def _read(node: Node, index: int, known: dict[Value, Sizes]) -> Sizes | None:
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None:
        return None
    if value in known:
        return known[value]
    tensor = value.tensor
    if tensor is None or tensor.dtype not in _INTEGERS or len(tensor.shape) > 1:
        return None
    flat = tensor.array().reshape(-1)
    return tuple(int(v) for v in flat) if len(flat) <= _LONGEST else None


def _integers(node: Node, index: int, known: dict[Value, Sizes]) -> list[int] | None:
    found = _read(node, index, known)
    if found is None or not all(isinstance(v, int) for v in found):
        return None
    return [v for v in found if isinstance(v, int)]


def _shape(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    return source.shape[node.attribute("start", 0) : node.attribute("end", len(source.shape))]


def _same(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    return _read(node, 0, known)


def _cast(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    return _read(node, 0, known) if node.attribute("to") in _INTEGERS else None


def _to_vector(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    """Keep the elements where Unsqueeze or Squeeze of them gives rank 0 or 1."""
    shape = node.outputs[0].shape
    return _read(node, 0, known) if shape is not None and len(shape) < 2 else None


def _gather(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    source, indices = _read(node, 0, known), _integers(node, 1, known)
    if source is None or indices is None or node.attribute("axis", 0) != 0:
        return None
    if any(not -len(source) <= i < len(source) for i in indices):
        return None
    return tuple(source[i] for i in indices)


def _concat(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    parts = [_read(node, i, known) for i in range(len(node.inputs))]
    if any(p is None for p in parts):
        return None
    return tuple(v for p in parts if p is not None for v in p)


def _slice(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
    source = _read(node, 0, known)
    starts, ends = _integers(node, 1, known), _integers(node, 2, known)
    if source is None or starts is None or ends is None:
        return None
    steps = _integers(node, 4, known) if len(node.inputs) > 4 else [1]
    if steps is None or steps[0] < 1:
        return None
    return source[starts[0] : ends[0] : steps[0]]


def _arithmetic(operation: Callable[[int, int], Dim]) -> Callable[..., Sizes | None]:
    def rule(node: Node, known: dict[Value, Sizes]) -> Sizes | None:
        left, right = _read(node, 0, known), _read(node, 1, known)
        if left is None or right is None:
            return None
        length = max(len(left), len(right))
        if min(len(left), len(right)) == 0 or not {len(left), len(right)} <= {1, length}:
            return None
        pairs = zip(left * (length // len(left)), right * (length // len(right)), strict=True)
        return tuple(_combine(operation, a, b) for a, b in pairs)

    return rule


def _combine(operation: Callable[[int, int], Dim], a: Dim, b: Dim) -> Dim:
    return operation(a, b) if isinstance(a, int) and isinstance(b, int) else None


def _divide(a: int, b: int) -> Dim:
    """Divide as ONNX does: towards zero."""
    if b == 0:
        return None
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


_RULES: dict[str, Callable[[Node, dict[Value, Sizes]], Sizes | None]] = {
    "Add": _arithmetic(lambda a, b: a + b),
    "Cast": _cast,
    "Concat": _concat,
    "Div": _arithmetic(_divide),
    "Gather": _gather,
    "Identity": _same,
    "Mul": _arithmetic(lambda a, b: a * b),
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _to_vector,
    "Sub": _arithmetic(lambda a, b: a - b),
    "Unsqueeze": _to_vector,
}
