"""Operators that take axes away, or leave one element of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.inference.operands import rule
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result


@rule("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
      "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare")  # fmt: skip
def reduce(o: Operands) -> list[Result] | None:
    """The axes are gone, or of length 1."""
    dims = o.dims(0)
    given, axes = o.listed("axes", 1)
    if dims is None:
        return [(o.dtype(0), None)]
    if given and axes is None:
        known: list[Dim | None] | None = [None] * len(dims) if o.attribute("keepdims", 1) else None
        return [(o.dtype(0), known)]
    if not axes:
        if o.attribute("noop_with_empty_axes", 0):
            return [(o.dtype(0), dims)]
        axes = list(range(len(dims)))
    return [(o.dtype(0), without(dims, axes, bool(o.attribute("keepdims", 1))))]


@rule("ArgMax", "ArgMin")
def locate(o: Operands) -> list[Result]:
    """The place of an extreme along one axis."""
    dims = o.dims(0)
    if dims is None:
        return [(DType.INT64, None)]
    axes = [int(o.attribute("axis", 0))]
    return [(DType.INT64, without(dims, axes, bool(o.attribute("keepdims", 1))))]


def without(dims: Dims, axes: list[int], keep: bool) -> list[Dim | None]:
    """Return the dimensions with axes left out, or made 1."""
    gone = {a % len(dims) for a in axes} if dims else set()
    if keep:
        return [1 if i in gone else size for i, size in enumerate(dims)]
    return [size for i, size in enumerate(dims) if i not in gone]


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def pool_all(o: Operands) -> list[Result]:
    """Everything behind batch and channels is of length 1."""
    dims = o.dims(0)
    if dims is None or len(dims) < 2:
        return [(o.dtype(0), None)]
    return [(o.dtype(0), (*dims[:2], *[1] * (len(dims) - 2)))]


@rule("TopK")
def take_largest(o: Operands) -> list[Result]:
    """As long along the axis as the second operand says."""
    dims = o.dims(0)
    counts = o.sizes(1) if o.opset >= 10 else [int(o.attribute("k", 1))]
    if dims is None:
        return [(o.dtype(0), None), (DType.INT64, None)]
    made: list[Dim | None] = list(dims)
    made[int(o.attribute("axis", -1))] = counts[0] if counts else None
    return [(o.dtype(0), made), (DType.INT64, made)]
