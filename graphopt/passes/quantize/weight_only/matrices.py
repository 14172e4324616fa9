"""The constant matrices of a graph that can be stored in few bits, and why others cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.quantize.weight_only.blocks import Array

FLOATS = frozenset({DType.FLOAT, DType.FLOAT16})
OPERATORS = ("MatMul", "Gemm", "Gather")


@dataclass(frozen=True)
class Matrix:
    """A constant that one node multiplies by, or looks rows up in.

    Seen as ``outputs`` rows of ``inputs`` features, whichever way it is stored: a matrix product
    sums over the features, a look-up returns them.

    Args:
        node: MatMul, Gemm or Gather.
        weight: the stored constant; rank 2, or more with leading ones.
        by_row: whether it is stored as [outputs, inputs].
        outputs: number of rows.
        inputs: features of a row.
        factors: what each feature is multiplied by before it is quantized; float32 [inputs].
    """

    node: Node
    weight: Value
    by_row: bool
    outputs: int
    inputs: int
    factors: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.outputs, self.inputs

    @property
    def source(self) -> Value:
        """The activations that it is applied to, or the indices."""
        found = self.node.inputs[1 if self.node.op == "Gather" else 0]
        assert found is not None
        return found

    @property
    def key(self) -> tuple[str, bool, str]:
        """Equal for matrices that are the same weights seen the same way."""
        return self.weight.name, self.by_row, "" if self.factors is None else self.source.name

    def rows(self, start: int, stop: int) -> Array:
        """Return rows as float32 [count, inputs]."""
        stored = self._stored()
        return self._scaled(stored[start:stop] if self.by_row else stored[:, start:stop].T)

    def chosen(self, indices: Array) -> Array:
        """Return the rows of these indices as float32 [count, inputs]."""
        stored = self._stored()
        return self._scaled(stored[indices] if self.by_row else stored[:, indices].T)

    def _scaled(self, part: Array) -> Array:
        rows = np.ascontiguousarray(part, np.float32)
        return rows if self.factors is None else rows * self.factors

    def _stored(self) -> Array:
        array = self.weight.array()
        return array.reshape(array.shape[-2:])


def find_matrix(node: Node) -> Matrix | str | None:
    """Return a node's matrix, the reason why it has none that can be quantized, or None.

    None stands for operators that look nothing up in a matrix and multiply by none.
    """
    if node.domain or node.op not in OPERATORS:
        return None
    if node.op == "Gather":
        return _table(node)
    return _factor(node)


def _table(node: Node) -> Matrix | str | None:
    table = node.inputs[0]
    if table is None or not table.is_constant or table.dtype not in FLOATS:
        return None
    shape = table.shape or ()
    if len(shape) != 2 or node.attribute("axis", 0) not in {0, -2}:
        return None if len(shape) < 2 else "only rows of a matrix are looked up in few bits"
    rows, features = table.array().shape
    return Matrix(node, table, True, rows, features)


def _factor(node: Node) -> Matrix | str:
    left, right = node.inputs[:2]
    if left is None or right is None:
        return "an operand is missing"
    weight, by_row = _origin(right)
    if not weight.is_constant:
        return "its first operand is constant" if left.is_constant else "no operand is constant"
    if weight.dtype not in FLOATS:
        kind = weight.dtype.name.lower() if weight.dtype else "unknown"
        return f"its weights are of type {kind}"
    shape = tuple(int(d) for d in weight.array().shape)
    if len(shape) < 2 or any(d != 1 for d in shape[:-2]):
        return f"its weights have the shape {list(shape)}, which is no single matrix"
    if node.op == "Gemm":
        reason = _gemm_obstacle(node)
        by_row ^= bool(node.attribute("transB", 0))
    else:
        reason = _rank_obstacle(left, len(shape))
    if reason is not None:
        return reason
    outputs, inputs = shape[-2:] if by_row else (shape[-1], shape[-2])
    return Matrix(node, weight, by_row, outputs, inputs)


def _origin(value: Value) -> tuple[Value, bool]:
    """Return the constant behind ``value``, and whether it is transposed on the way.

    For a factor, transposed means stored by row.
    """
    producer = value.producer
    if value.is_constant or producer is None or producer.op != "Transpose" or producer.domain:
        return value, False
    inner = producer.inputs[0]
    if inner is None or not inner.is_constant or len(inner.array().shape) != 2:
        return value, False
    if list(producer.attribute("perm", [1, 0])) != [1, 0]:
        return value, False
    return inner, True


def _gemm_obstacle(node: Node) -> str | None:
    if node.attribute("transA", 0):
        return "its first operand is transposed"
    if node.attribute("alpha", 1.0) != 1.0:
        return "its product is scaled (alpha)"
    return None


def _rank_obstacle(left: Value, rank: int) -> str | None:
    """A product with leading ones in the weights may have a higher rank than its first operand."""
    if rank > 2 and (left.shape is None or len(left.shape) < rank):
        return f"its weights have rank {rank}, and more than the activations"
    if left.shape is not None and len(left.shape) < 2:
        return "its activations are a vector"
    return None


def inner_nodes(graph: Graph) -> list[Node]:
    """Return the products and look-ups of inner graphs, which are left alone."""
    outer = set(graph.nodes())
    return [n for n in graph.walk() if n not in outer and n.op in OPERATORS]
