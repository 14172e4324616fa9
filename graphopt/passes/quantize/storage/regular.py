"""Constants that follow from fewer numbers: one value, a triangle, the same along an axis.

What is stored is exact, and a runtime computes it once, at load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.quantize.storage.expand import put_in_place
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]

_TYPES = {DType.FLOAT, DType.FLOAT16, DType.INT64, DType.INT32, DType.INT8, DType.UINT8}
_TRIANGLES = {DType.FLOAT, DType.INT64}
"""Types that onnxruntime's Trilu takes on the CPU."""
_MATRIX = 2
_HALVES = 2
"""A constant is written as a repetition where it becomes this many times smaller, at least."""


def store_regular(graph: Graph, smallest: int) -> int:
    """Store every constant by the fewest numbers that it follows from; return how many could be.

    Args:
        graph: of opset 14 at least.
        smallest: bytes below which a constant stays.
    """
    count = 0
    for value in graph.initializers:
        tensor = value.tensor
        if tensor is None or tensor.nbytes < smallest or tensor.dtype not in _TYPES:
            continue
        if value.is_output or value.is_input or not _read_plainly(value):
            continue
        result = _regular(graph, value)
        if result is not None:
            put_in_place(graph, value, result)
            count += 1
    return count


def _read_plainly(value: Value) -> bool:
    """Whether all readers are of the same graph and take a constant or anything else alike."""
    return all(n.graph is value.graph and n.op != "DequantizeLinear" for n, _ in value.uses)


def _regular(graph: Graph, value: Value) -> Value | None:
    values = np.asarray(value.array())
    triangle = _triangle(graph, value, values)
    if triangle is not None:
        return triangle
    fewer = values
    for axis in range(values.ndim):
        first = fewer.take([0], axis=axis)
        # Bytes decide: 0 and -0 are not the same, and nan is.
        if fewer.shape[axis] > 1 and _same(np.broadcast_to(first, fewer.shape), fewer):
            fewer = first
    if fewer.size * _HALVES > values.size:
        return None
    stored = graph.add_constant(f"{value.name}_once", np.ascontiguousarray(fewer))
    shape = graph.add_constant(f"{value.name}_shape", np.asarray(values.shape, np.int64))
    return _node(graph, "Expand", value, [stored, shape])


def _triangle(graph: Graph, value: Value, values: Array) -> Value | None:
    """Return a matrix of one value above or below a diagonal and 0 elsewhere, as Trilu makes it."""
    if values.ndim < _MATRIX or value.dtype not in _TRIANGLES:
        return None
    filled = values[(0,) * (values.ndim - _MATRIX)]
    for upper, corner in ((1, filled[0, -1]), (0, filled[-1, 0])):
        if corner == 0:
            continue
        full = np.full(values.shape, corner, values.dtype)
        rows, columns = np.nonzero(filled)
        k = int((columns - rows).min() if upper else (columns - rows).max())
        if _same(np.triu(full, k) if upper else np.tril(full, k), values):
            return _trilu(graph, value, values, corner, upper, k)
    return None


def _trilu(
    graph: Graph, value: Value, values: Array, corner: Any, upper: int, diagonal: int
) -> Value:
    shape = graph.add_constant(f"{value.name}_shape", np.asarray(values.shape, np.int64))
    once = graph.add_constant(f"{value.name}_once", np.asarray(corner, values.dtype))
    full = _node(graph, "Expand", value, [once, shape])
    k = graph.add_constant(f"{value.name}_diagonal", np.asarray(diagonal, np.int64))
    return _node(graph, "Trilu", value, [full, k], {"upper": upper})


def _node(
    graph: Graph,
    op: str,
    value: Value,
    inputs: list[Value],
    attributes: dict[str, Any] | None = None,
) -> Value:
    name = f"{value.name}_{op.lower()}"
    outputs = [graph.unique_name(f"{name}_out")]
    return graph.add_node(op, inputs, outputs, attributes, graph.unique_name(name)).outputs[0]


def _same(made: Array, values: Array) -> bool:
    return made.dtype == values.dtype and np.ascontiguousarray(made).tobytes() == values.tobytes()
