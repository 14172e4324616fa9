"""Which constants are weights, and how they divide into rows that can have scales of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

_SECOND = 1
_PRODUCTS = ("MatMul", "DynamicQuantizeMatMul", "MatMulInteger")
_RECURRENT = ("LSTM", "GRU", "RNN")
_OF_RECURRENT = (1, 2)


@dataclass(frozen=True)
class Weight:
    """A constant that an operator multiplies with, or looks rows up in.

    Args:
        value: float32, or int8 behind a DequantizeLinear.
        node: the operator that computes with it.
        columns: whether a row, what belongs to one output, is a column of the matrix.
    """

    value: Value
    node: Node
    columns: bool

    @property
    def is_recurrent(self) -> bool:
        """Whether the last axis, not all but the first, is multiplied with."""
        return self.node.op in _RECURRENT

    def rows(self, values: Array) -> Array:
        """Return the weights as [rows, features]."""
        if self.columns:
            return np.ascontiguousarray(values.T)
        if self.is_recurrent:
            return values.reshape(-1, values.shape[-1])
        return values.reshape(len(values), -1)


def stored_weights(graph: Graph, smallest: int) -> Iterator[Weight]:
    """Yield the weights of a graph that have so many elements or more.

    Args:
        graph: is only read.
        smallest: elements.
    """
    for value in graph.initializers:
        tensor = value.tensor
        if tensor is None or tensor.size < smallest or value.is_output or value.is_input:
            continue
        if tensor.dtype in {DType.FLOAT, DType.INT8}:
            found = _weight(value)
            if found is not None:
                yield found


def _weight(value: Value) -> Weight | None:
    """Return a constant as a weight; None where its readers do not agree on its rows."""
    places = [_place(node, index) for node, index in value.uses]
    if not places or any(place is None for place in places):
        return None
    first = places[0]
    assert first is not None
    if any(place is None or place[1:] != first[1:] for place in places):
        return None
    node, _, columns = first
    if columns and len(value.shape or ()) != 2:
        return None
    return Weight(value, node, columns)


def _place(node: Node, index: int) -> tuple[Node, str, bool] | None:
    """Return the operator that reads a weight, its kind, and whether rows are columns."""
    if node.op == "DequantizeLinear" and not node.domain:
        readers = node.outputs[0].uses
        found = [_place(n, i) for n, i in readers] if index == 0 else []
        return found[0] if len(found) == 1 else None
    if node.op in _RECURRENT and index in _OF_RECURRENT:
        return node, node.op, False
    if node.op == "Conv" and index == _SECOND:
        return node, "Conv", False
    if node.op == "Gemm" and index == _SECOND:
        return node, "product", not node.attribute("transB", 0)
    if node.op in _PRODUCTS and index == _SECOND:
        return node, "product", True
    if node.op == "Gather" and index == 0:
        return node, "table", False
    return None
