"""Sizes of tensors: symbols bound to numbers, unknown ones counted as small."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from graphopt.analysis import static_shape
from graphopt.analysis.symbols import learn_sizes
from graphopt.cost.loading import prepare
from graphopt.ir import infer_shapes, structural_hash
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Value

DEFAULT_DIM = 64
"""What a symbolic dimension counts as when nobody says: a short sequence, a small image."""

_BATCH_NAMES = frozenset({"n", "b", "batch", "batch_size", "batchsize", "bs"})
_UNKNOWN_BITS = 32
_PRODUCTS = frozenset({"DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"})
"""Products of float results that onnx has no rule for; our passes declare their shapes."""


def dims(value: Value | None) -> tuple[int, ...]:
    """Return a tensor's sizes; a dimension that is not a number counts as 1."""
    if value is None or value.shape is None:
        return ()
    return tuple(d if isinstance(d, int) else 1 for d in value.shape)


def elements(value: Value | None) -> int:
    """Return the number of elements; 1 when not even the rank is known, 0 for no value."""
    return 0 if value is None else math.prod(dims(value))


def nbytes(value: Value | None) -> int:
    """Return the bytes of a tensor in memory; an unknown element type counts as float32."""
    if value is None:
        return 0
    bits = value.dtype.bits if value.dtype else _UNKNOWN_BITS
    return (elements(value) * bits + 7) // 8


def sized(graph: Graph, given: Mapping[str, int]) -> tuple[Graph, dict[str, int]]:
    """Return a copy of ``graph`` with every size that can be known, and how symbols were bound.

    A symbol of ``given`` takes its value from there, one with bounds its largest. Otherwise a batch
    (a symbol of that name, or the leading dimension of an input of rank 2 and more) is 1, and
    anything else ``DEFAULT_DIM``.
    """
    copy = graph.copy()
    # What has to fit, and to be fast enough, is the largest that was stated.
    given = {**{name: high for name, (_, high) in graph.bounds.items()}, **given}
    prepare(copy)
    bound: dict[str, int] = {}
    for value in copy.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, str):
                size = given.get(dim, _guess(dim, axis, len(value.shape or ())))
                bound[dim] = min(bound.get(dim, size), size)
        value.shape = _number_anonymous(value)
    # Whatever stops the inference: what is not known is costed by what is declared.
    with contextlib.suppress(Exception):
        if bound or _is_open(copy):
            infer_shapes(copy, bound)
        while _shape_products(copy):
            infer_shapes(copy, bound)
    if unknown_count(copy):
        learn_sizes(copy)
    return copy, bound


_sized: WeakKeyDictionary[Graph, tuple[object, tuple[Graph, dict[str, int]]]] = WeakKeyDictionary()


def sized_once(graph: Graph, given: Mapping[str, int]) -> tuple[Graph, dict[str, int]]:
    """Return the same as ``sized``, made once for a graph as it is; nobody may change the copy."""
    key = (
        structural_hash(graph),
        tuple(sorted(graph.bounds.items())),
        tuple(sorted(given.items())),
        tuple((v.dtype, v.shape) for v in graph.values()),
    )
    held = _sized.get(graph)
    if held is None or held[0] != key:
        held = _sized[graph] = (key, sized(graph, given))
    return held[1]


def _is_open(graph: Graph) -> bool:
    """Whether inference may find a type or a size, at any level."""
    results = (v for node in graph.walk() for v in node.outputs if v.name)
    return any(v.dtype is None or static_shape(v) is None for v in results)


def _shape_products(graph: Graph) -> bool:
    """Give onnxruntime's own products the shapes that nobody declared; return whether any did."""
    found = False
    for node in graph.nodes():
        if node.domain != "com.microsoft" or node.op not in _PRODUCTS:
            continue
        left, right, output = node.inputs[0], node.inputs[1], node.outputs[0]
        columns = int(node.attribute("N", 0)) or (dims(right)[-1] if dims(right) else 0)
        if static_shape(output) is None and columns and (rows := static_shape(left)):
            output.shape = (*rows[:-1], columns)
            output.dtype = output.dtype or DType.FLOAT
            found = True
    return found


def unknown_count(graph: Graph) -> int:
    """Return how many tensors of the top level have no known shape."""
    return sum(
        1
        for node in graph.nodes()
        for value in node.outputs
        if value.name and (value.shape is None or not all(isinstance(d, int) for d in value.shape))
    )


def _guess(symbol: str, axis: int, rank: int) -> int:
    batch = symbol.lower() in _BATCH_NAMES or (axis == 0 and rank > 1)
    return 1 if batch else DEFAULT_DIM


def _number_anonymous(value: Value) -> tuple[int | str | None, ...] | None:
    if value.shape is None:
        return None
    rank = len(value.shape)
    return tuple(_guess("", i, rank) if d is None else d for i, d in enumerate(value.shape))
