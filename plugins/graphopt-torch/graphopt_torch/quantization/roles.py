"""Which stored numbers of a graph are parameters that may be trained, told by how they are used.

A constant is a parameter where every operator that reads it, behind operators that only move or
convert it, takes it for one:

- "weights": the kernels of Conv, ConvTranspose and their fused forms, matrices of Gemm and MatMul,
  LSTM, GRU and RNN, tables of Gather, learned positions that an Add brings in;
- "biases": their biases, and vectors that an Add or Sub has for each channel;
- "norms": scale and offset of BatchNormalization, LayerNormalization, RMSNormalization,
  InstanceNormalization and GroupNormalization, slopes of PRelu, vectors that a Mul has for each
  channel.

Everything else stays as it is: shapes, axes, indices, means and variances, eps, bounds, divisors,
single numbers (of an elementwise operator), what is taken from or multiplied with an input of the
model (its preprocessing), what no product reads the result of (anchors of boxes; not the bias right
behind the last product), masks (numbers that are infinite, beyond 1e4, or 0 and 1 only), tables
that are multiplied element by element (the sines and cosines of rotary positions), products
without a sum (their frequencies), and matrices and kernels of at most four different numbers (sums,
selections, corners of boxes from their centres).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

Role = Literal["weights", "biases", "norms"]

FLOATS = (DType.FLOAT, DType.FLOAT16, DType.BFLOAT16, DType.DOUBLE)

_LARGEST = 1e4
"""No parameter is larger; what keeps positions out of an attention is."""

_DESIGNED = 4
"""Different numbers that a matrix or kernel may have which was written down, not learned."""

_MOVED = frozenset(
    {"Cast", "DequantizeLinear", "Expand", "Flatten", "Identity", "QuantizeLinear", "Reshape",
     "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
"""Operators behind which a constant is still the same parameter."""

_POSITIONS: dict[str, dict[int, Role]] = {
    "Conv": {1: "weights", 2: "biases"},
    "FusedConv": {1: "weights", 2: "biases"},
    "ConvTranspose": {1: "weights", 2: "biases"},
    "Gemm": {0: "weights", 1: "weights", 2: "biases"},
    "FusedGemm": {0: "weights", 1: "weights", 2: "biases"},
    "MatMul": {0: "weights", 1: "weights"},
    "FusedMatMul": {0: "weights", 1: "weights"},
    "MatMulNBits": {5: "biases"},
    "DynamicQuantizeMatMul": {4: "biases"},
    "LSTM": {1: "weights", 2: "weights", 3: "biases", 7: "weights"},
    "GRU": {1: "weights", 2: "weights", 3: "biases"},
    "RNN": {1: "weights", 2: "weights", 3: "biases"},
    "Attention": {1: "weights", 2: "biases"},
    "BiasGelu": {1: "biases"},
    "FastGelu": {1: "biases"},
    "BatchNormalization": {1: "norms", 2: "norms"},
    "LayerNormalization": {1: "norms", 2: "norms"},
    "SimplifiedLayerNormalization": {1: "norms"},
    "SkipLayerNormalization": {2: "norms", 3: "norms", 4: "biases"},
    "SkipSimplifiedLayerNormalization": {2: "norms", 3: "biases"},
    "RMSNormalization": {1: "norms"},
    "InstanceNormalization": {1: "norms", 2: "norms"},
    "GroupNormalization": {1: "norms", 2: "norms"},
    "PRelu": {1: "norms"},
}
_PRODUCTS = frozenset({"MatMul", "FusedMatMul", "Gemm", "FusedGemm"})
_HEAVY = frozenset(
    {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul",
     "MatMulNBits", "DynamicQuantizeMatMul", "LSTM", "GRU", "RNN", "Attention"}
)  # fmt: skip
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul"})
_HARMLESS = frozenset({"Shape", "Size"})


def trainable_floats(graph: Graph) -> dict[str, Role]:
    """Return the float initializers that may be trained, with what they are, in file order."""
    found: dict[str, Role] = {}
    for value in graph.initializers:
        if value.dtype in FLOATS and value.tensor is not None:
            role = role_of(value, value.array())
            if role is not None and not (role == "weights" and _is_designed(value.array())):
                found[value.name] = role
    return found


def role_of(value: Value, numbers: Array) -> Role | None:
    """Return what the readers of a stored constant take it for; None where it is no parameter.

    Args:
        value: the constant; what a DequantizeLinear makes of stored integers counts too.
        numbers: what it stands for, as floats.
    """
    if not numbers.size or value.is_output:
        return None
    roles: set[Role | None] = {_role(n, i, v, numbers) for n, i, v in _uses(value)}
    roles -= {None} if roles == {None} else set()
    if not roles or None in roles:
        return None
    # A table that is looked up and multiplied with is a weight; a bias of one, added in another.
    return min((r for r in roles if r is not None), key=("weights", "norms", "biases").index)


def _uses(value: Value) -> Iterator[tuple[Node, int, Value]]:
    """Yield who reads a constant at which position, behind operators that only move it."""
    stack = [value]
    while stack:
        read = stack.pop()
        for node, index in read.uses:
            if node.op in _HARMLESS and not node.domain:
                continue
            if node.op in _MOVED and index == 0 and not node.outputs[0].is_output:
                stack.append(node.outputs[0])
            else:
                yield node, index, read


def _role(node: Node, index: int, read: Value, numbers: Array) -> Role | None:
    if node.op in _ELEMENTWISE:
        return _elementwise_role(node, index, numbers)
    if node.op == "Gather":
        return _table_role(node, index, numbers)
    role = _POSITIONS.get(node.op, {}).get(index)
    if role == "weights" and node.op in _PRODUCTS and _is_outer(read):
        return None
    return role if role is None or _is_usual(numbers) else None


def _table_role(node: Node, index: int, numbers: Array) -> Role | None:
    read_as_numbers = all(
        not (n.op == "DequantizeLinear" and i > 0) for n, i in node.outputs[0].uses
    )
    wanted = index == 0 and numbers.ndim > 1 and read_as_numbers and not node.attribute("axis", 0)
    return "weights" if wanted and _is_usual(numbers) and not _is_wave(numbers) else None


def _is_outer(read: Value) -> bool:
    """Whether a product with the matrix sums over one element: it is an outer product."""
    shape = read.shape
    return shape is not None and len(shape) > 2 and 1 in shape[-2:]


def _elementwise_role(node: Node, index: int, numbers: Array) -> Role | None:
    other = node.inputs[1 - index]
    if numbers.size == 1 or other is None or other.is_constant or other.is_input:
        return None
    if not _is_usual(numbers) or _is_binary(numbers):
        return None
    along = sum(size > 1 for size in numbers.shape)
    is_bias = along == 1 and node.op != "Mul"
    behind = other.producer.op if other.producer is not None else ""
    if not (is_bias and behind in _HEAVY) and not _reaches_product(node):
        return None
    if is_bias:
        return "biases"
    if node.op == "Mul":
        return "norms" if along == 1 and np.ptp(numbers) > 0 else None
    return "weights" if node.op == "Add" and not _is_wave(numbers) else None


def _is_designed(matrix: Array) -> bool:
    """Whether a weight has so few different numbers that nobody learned it: sums, selections."""
    return matrix.size > _DESIGNED and np.unique(matrix).size <= _DESIGNED


def _reaches_product(node: Node) -> bool:
    """Whether a product with weights reads, directly or not, what a node computes."""
    stack, seen = [node], {node}
    while stack:
        fresh = [n for v in stack.pop().outputs for n in v.consumers if n not in seen]
        if any(n.op in _HEAVY for n in fresh):
            return True
        seen.update(fresh)
        stack += fresh
    return False


def _is_usual(numbers: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.abs(numbers.astype(np.float32)) < _LARGEST).all())


def _is_binary(numbers: Array) -> bool:
    """Whether a table of more than one axis holds nothing but 0 and 1: it is a mask."""
    table = sum(size > 1 for size in numbers.shape) > 1
    return table and bool(((numbers == 0) | (numbers == 1)).all())


def _is_wave(table: Array) -> bool:
    """Whether a table is of cosines or sines: rows start at cos 0 or sin 0 and stay within 1."""
    rows = np.asarray(table, dtype=np.float32).reshape(-1, table.shape[-1])
    start = rows[0]
    begins = bool((start == 1).all() or (start == 0).all() or np.isin(start, (0, 1)).all())
    return begins and bool((np.abs(rows) <= 1).all())
