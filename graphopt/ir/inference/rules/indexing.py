"""Operators that pick elements by their place or by what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir import dims as d
from graphopt.ir.inference.operands import MICROSOFT, rule
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.dims import Dim
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.operands import Operands, Result


def gathered(table: Dims | None, index: Dims | None, axis: int) -> list[Dim | None] | None:
    """Return the dimensions of rows of a table."""
    if not table or index is None:
        return None
    axis %= len(table)
    return [*table[:axis], *index, *table[axis + 1 :]]


@rule("Gather")
def gather(o: Operands) -> list[Result]:
    """The axes of the indices take the place of one."""
    return [(o.dtype(0), gathered(o.dims(0), o.dims(1), int(o.attribute("axis", 0))))]


@rule("GatherElements")
def gather_elements(o: Operands) -> list[Result]:
    """As many as there are indices."""
    return [(o.dtype(0), o.dims(1))]


@rule("GatherND")
def gather_slices(o: Operands) -> list[Result]:
    """The axes of the indices but the last, then those that are not indexed."""
    data, index = o.dims(0), o.dims(1)
    batch = int(o.attribute("batch_dims", 0))
    if data is None or not index or not isinstance(index[-1], int):
        return [(o.dtype(0), None)]
    return [(o.dtype(0), [*index[:-1], *data[batch + index[-1] :]])]


@rule("NonZero")
def find_nonzero(o: Operands) -> list[Result]:
    """One row for each axis; how many there are depends on the data."""
    dims = o.dims(0)
    return [(DType.INT64, [len(dims) if dims else None, None])]


@rule("Compress")
def compress(o: Operands) -> list[Result]:
    """How many are kept depends on the data."""
    dims, axis = o.dims(0), o.attribute("axis")
    if axis is None:
        return [(o.dtype(0), [None])]
    if dims is None:
        return [(o.dtype(0), None)]
    made: list[Dim | None] = list(dims)
    made[int(axis)] = None
    return [(o.dtype(0), made)]


@rule("NonMaxSuppression")
def suppress(o: Operands) -> list[Result]:
    """Three numbers for each box that is kept."""
    return [(DType.INT64, [None, 3])]


@rule("OneHot")
def encode(o: Operands) -> list[Result]:
    """A new axis, as long as there are classes."""
    dims, depth = o.dims(0), o.sizes(1)
    if dims is None:
        return [(o.dtype(2), None)]
    axis = int(o.attribute("axis", -1))
    axis += len(dims) + 1 if axis < 0 else 0
    return [(o.dtype(2), [*dims[:axis], depth[0] if depth else None, *dims[axis:]])]


@rule("Shape")
def shape(o: Operands) -> list[Result]:
    """As many numbers as there are axes."""
    dims = o.dims(0)
    return [(DType.INT64, [None if dims is None else len(part(o, dims))])]


def part(o: Operands, dims: Dims) -> Dims:
    """Return the dimensions that a Shape takes."""
    return dims[o.attribute("start", 0) : o.attribute("end", len(dims))]


@rule("Size")
def size(o: Operands) -> list[Result]:
    """One number."""
    return [(DType.INT64, ())]


@rule("GatherBlockQuantized", domain=MICROSOFT)
def gather_blocks(o: Operands) -> list[Result]:
    """Rows of a table that is stored in blocks of few bits, two or four elements a byte."""
    table = o.dims(0)
    if table and o.dtype(0) is DType.UINT8:
        table = (*table[:-1], d.multiply(table[-1], 8 // int(o.attribute("bits", 4))))
    return [(o.dtype(2), gathered(table, o.dims(1), int(o.attribute("gather_axis", 0))))]
