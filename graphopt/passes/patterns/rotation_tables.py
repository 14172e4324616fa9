"""Tables of cosines and sines whose second half repeats the first, and that half."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import integers, scalar
from graphopt.passes.patterns import building
from graphopt.passes.patterns.attention_heads import declared
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.analysis.symbols import Dim, Dims, Symbols
    from graphopt.ir import Graph, Node, Value

_PLAIN = frozenset({"Cast", "Cos", "Identity", "Neg", "Sin"})
_BY_NUMBER = frozenset({"Add", "Div", "Mul", "Sub"})
_AXES = frozenset({"Squeeze", "Unsqueeze"})
_DEEPEST = 20


@dataclass
class HalvedTables:
    """Makes tables [B, T, d / 2] of tables [B, 1, T, d]; what is shared is made once."""

    graph: Graph
    symbols: Symbols
    _made: dict[object, Value] = field(default_factory=dict)

    def repeats(self, value: Value | None, depth: int = 0) -> bool:
        """Whether the two halves of the last axis are known to be equal."""
        if value is None or depth > _DEEPEST:
            return False
        if value.tensor is not None:
            return _halves_equal(value)
        node = value.producer
        if node is None or node.domain or value is not node.outputs[0]:
            return False
        if _is_doubled(node, self.symbols):
            return True
        source = _source(node, self.symbols)
        return source is not None and self.repeats(source, depth + 1)

    def table(self, value: Value, heads_axis: int, batch: Dim, like: Value) -> Value:
        """Return [B, T, d / 2] of a table that repeats.

        Args:
            value: the table, of up to four axes, one of them for heads, of length 1.
            heads_axis: where that axis is in the rotated tensor, of four axes.
            batch: B; ``like`` is where an unknown number is read.
            like: the rotated tensor.
        """
        shape = self.symbols.shape(value)
        assert shape is not None
        key = ("table", value, heads_axis, batch)
        return self._kept(key, lambda: self._table(value, shape, heads_axis, batch, like))

    def _table(self, value: Value, shape: Dims, heads_axis: int, batch: Dim, like: Value) -> Value:
        half = self._half(value)
        size = int(shape[-1]) // 2
        if half.tensor is not None:
            padded = half.array().reshape((1,) * (4 - len(shape)) + half.array().shape)
            flat = np.squeeze(padded, axis=heads_axis)
            if isinstance(batch, int):
                flat = np.broadcast_to(flat, (batch, *flat.shape[1:]))
            made = self._constant(value, flat)
            rows: Dims = (flat.shape[0], flat.shape[1], size)
        else:
            wide = (*(1,) * (4 - len(shape)), *shape[:-1], size)
            made = self._without_heads(half, 4 - len(shape), heads_axis)
            rows = tuple(d for i, d in enumerate(wide) if i != heads_axis)
            made.shape = declared(rows)
        return made if rows[0] == batch else self._stretched(made, rows, batch, like)

    def _without_heads(self, half: Value, missing: int, heads_axis: int) -> Value:
        """Return the table without the axis for heads and with one for the batch."""
        if missing == 1:
            # The first axis of [1, T, d] was for heads, and may as well be for the batch.
            return half
        if missing == 2:
            return self._moved("Unsqueeze", half, [0])
        node = half.producer
        if node is not None and node.op == "Unsqueeze" and not node.domain and node.inputs[0]:
            axes = integers(node.inputs[1]) if len(node.inputs) > 1 else None
            if axes in ([heads_axis], [heads_axis - 4]):
                return node.inputs[0]
        return self._moved("Squeeze", half, [heads_axis])

    def _moved(self, op: str, value: Value, axes: list[int]) -> Value:
        name = self.graph.unique_name(f"{value.name}_axes")
        given = self.graph.add_constant(name, np.array(axes, np.int64))
        return building.add_operator(self.graph, op, [value, given], None, like=value)

    def _stretched(self, table: Value, rows: Dims, batch: Dim, like: Value) -> Value:
        ones = self.graph.add_constant(
            self.graph.unique_name(f"{table.name}_ones"), np.array([1, 1], np.int64)
        )
        if isinstance(batch, int):
            count = self.graph.add_constant(
                self.graph.unique_name(f"{table.name}_batch"), np.array([batch], np.int64)
            )
        else:
            span = {"start": 0, "end": 1}
            count = building.add_operator(self.graph, "Shape", [like], (1,), span, like=like)
            count.dtype = DType.INT64
        shape = building.add_operator(
            self.graph, "Concat", [count, ones], (3,), {"axis": 0}, like=count
        )
        wide = declared((batch, *rows[1:]))
        return building.add_operator(self.graph, "Expand", [table, shape], wide, like=table)

    def _half(self, value: Value) -> Value:
        return self._kept(("half", value), lambda: self._halved(value))

    def _halved(self, value: Value) -> Value:
        if value.tensor is not None:
            array = value.array()
            return self._constant(value, array[..., : array.shape[-1] // 2])
        node = value.producer
        assert node is not None
        if _is_doubled(node, self.symbols):
            assert node.inputs[0] is not None
            return node.inputs[0]
        source = _source(node, self.symbols)
        assert source is not None
        operands = [self._half(source) if v is source else v for v in node.inputs]
        attributes: dict[str, Any] = {n: node.attribute(n) for n in node.attribute_names}
        return building.add_operator(self.graph, node.op, operands, None, attributes, like=value)

    def _constant(self, value: Value, array: np.ndarray[Any, Any]) -> Value:
        name = self.graph.unique_name(f"{value.name}_half")
        return self.graph.add_constant(name, np.ascontiguousarray(array))

    def _kept(self, key: object, make: Callable[[], Value]) -> Value:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _halves_equal(value: Value) -> bool:
    array = value.array()
    if array.ndim == 0 or not array.shape[-1] or array.shape[-1] % 2:
        return False
    middle = array.shape[-1] // 2
    return bool(np.array_equal(array[..., :middle], array[..., middle:]))


def _is_doubled(node: Node, symbols: Symbols) -> bool:
    """Whether a Concat joins a tensor with itself along the last axis."""
    if node.op != "Concat" or len(node.inputs) != 2 or node.inputs[0] is not node.inputs[1]:
        return False
    shape = symbols.shape(node.outputs[0])
    return shape is not None and node.attribute("axis") in {-1, len(shape) - 1}


def _source(node: Node, symbols: Symbols) -> Value | None:
    """Return what an operator that treats all columns alike is given."""
    first = node.inputs[0] if node.inputs else None
    shape = symbols.shape(first)
    if first is None or not shape:
        return None
    if node.op in _PLAIN:
        return first
    if node.op in _BY_NUMBER:
        return _beside_number(node, symbols)
    if node.op in _AXES:
        return first if _keeps_last(node, symbols) else None
    if node.op == "Gather":
        return first if len(shape) > 1 and node.attribute("axis", 0) == 0 else None
    if node.op == "Slice" and len(node.inputs) > 3:
        axes = integers(node.inputs[3])
        other = axes is not None and not {-1, len(shape) - 1} & set(axes)
        return first if other else None
    return None


def _beside_number(node: Node, symbols: Symbols) -> Value | None:
    """Return the operand that is combined with one number."""
    for value, other in (node.inputs, node.inputs[::-1]):
        if other is None or other.tensor is None or scalar(other) is None or value is None:
            continue
        shape = symbols.shape(value)
        return value if shape is not None and len(other.tensor.shape) <= len(shape) else None
    return None


def _keeps_last(node: Node, symbols: Symbols) -> bool:
    """Whether Squeeze or Unsqueeze leave the last axis where it is."""
    axes = integers(node.inputs[1]) if len(node.inputs) > 1 else node.attribute("axes")
    wide = symbols.shape(node.outputs[0] if node.op == "Unsqueeze" else node.inputs[0])
    if not axes or wide is None:
        return False
    return not {-1, len(wide) - 1} & set(axes)
