"""Steps on integers and truths: indices, sizes, masks, and shapes computed from shapes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from tests.fuzzing.builder import OPEN

if TYPE_CHECKING:
    from tests.fuzzing.builder import Builder, Item
    from tests.fuzzing.steps import Step

INT64, INT32, BOOL = TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL
_NUMPY = {INT64: np.int64, INT32: np.int32, BOOL: np.bool_}


def _some(b: Builder, *dtypes: int, least: int = 0) -> Item:
    """Return a value of one of the types; feeds one where there is none, or at times."""
    found = b.whole_item(*dtypes, least=least) if b.number(0, 3) else None
    shapes = [(OPEN, 3), (OPEN, 2, 4), (2, 3), (4,), (1, 3), (OPEN, 1)]
    if least == 0:
        shapes += [(), (0,), (2, 0)]
    return found or b.feed(b.pick(shapes), b.pick(dtypes))


def _number(b: Builder, x: Item, value: int) -> str:
    """Return a constant of one element, of the type of ``x``."""
    return b.constant(np.full((1,) * b.number(0, x.rank), value, _NUMPY[x.dtype]))


def arithmetic(b: Builder) -> None:
    """Compute with a number, which may change nothing."""
    x = _some(b, INT64, INT32)
    op, values = b.pick(
        [("Add", (0, 3)), ("Sub", (0, 2)), ("Mul", (1, 0, -2)), ("Div", (1, 2, -3)),
         ("Mod", (2, 5)), ("Max", (0, 1)), ("Min", (0, 2)), ("Pow", (1, 2))]
    )  # fmt: skip
    order = [x.name, _number(b, x, b.pick(values))]
    if op in {"Add", "Mul", "Sub"} and b.flag():
        order.reverse()
    b.keep_whole(b.call(op, order), x.shape, x.dtype)


def of_one(b: Builder) -> None:
    x = _some(b, INT64, INT32)
    ops = ["Neg", "Abs", "Sign", "Identity"]
    # onnxruntime has a Relu of int64 in opset 18 alone, where onnx defines it as a function.
    op = b.pick([*ops, "Relu"] if x.dtype == INT32 else ops)
    b.keep_whole(b.call(op, [x.name]), x.shape, x.dtype)


def of_two(b: Builder) -> None:
    x = _some(b, INT64, INT32, BOOL)
    y = b.pick([i for i in b.whole if i.shape == x.shape and i.dtype == x.dtype] or [x])
    truths = ["And", "Or", "Xor", "Equal"]
    op = b.pick(truths if x.dtype == BOOL else ["Add", "Sub", "Mul", "Max", "Min", "Equal", "Less"])
    kind = BOOL if op in {"Equal", "Less"} else x.dtype
    b.keep_whole(b.call(op, [x.name, y.name]), x.shape, kind)


def negate(b: Builder) -> None:
    """Negate truths, at times twice."""
    x = _some(b, BOOL)
    name = b.call("Not", [x.name])
    b.keep_whole(b.call("Not", [name]) if b.flag() else name, x.shape, BOOL)


def convert(b: Builder) -> None:
    """Change the type, there and perhaps back."""
    x = _some(b, INT64, INT32, BOOL)
    to = b.pick([INT64, INT32, BOOL, TensorProto.FLOAT])
    name = b.call("Cast", [x.name], to=to)
    if b.flag():
        name, to = b.call("Cast", [name], to=x.dtype), x.dtype
    if to == TensorProto.FLOAT:
        b.keep(name, x.shape, exact=True)
    else:
        b.keep_whole(name, x.shape, to)


def truncate(b: Builder) -> None:
    """Make integers of floats."""
    x = b.item(exact=True)
    if x is not None:
        to = b.pick([INT64, INT32, BOOL])
        b.keep_whole(b.call("Cast", [x.name], to=to), x.shape, to)


def total(b: Builder) -> None:
    x = _some(b, INT64, INT32, least=1)
    axis, kept = b.number(0, x.rank - 1), b.number(0, 1)
    if b.flag():
        name = b.call("ReduceSum", [x.name, b.integers(axis)], keepdims=kept)
    else:
        name = b.call("ReduceMax", [x.name], axes=[axis - x.rank], keepdims=kept)
    middle = [1] if kept else []
    b.keep_whole(name, (*x.shape[:axis], *middle, *x.shape[axis + 1 :]), x.dtype)


def largest_place(b: Builder) -> None:
    x = b.item(least=2, exact=True)
    if x is not None:
        op, kept = b.pick(["ArgMax", "ArgMin"]), b.number(0, 1)
        name = b.call(op, [x.name], axis=-1, keepdims=kept)
        b.keep_whole(name, (*x.shape[:-1], *[1] * kept), INT64)


def masked(b: Builder) -> None:
    """Choose by truths between numbers, some of them constant."""
    x = _some(b, BOOL)
    low, high = (b.filled(v, b.number(0, 1)) for v in b.pick([(0.0, 1.0), (-1e4, 0.0)]))
    if x.rank == 0:
        low, high = b.filled(0.0), b.filled(2.0)
    b.keep(b.call("Where", [x.name, low, high]), x.shape, exact=True)


def look_up(b: Builder) -> None:
    """Take rows of a table by computed places."""
    x = _some(b, INT64, INT32)
    if x.rank > 3:
        return
    rows = b.number(2, 5)
    place = b.call("Mod", [x.name, _number(b, x, rows)])
    b.keep(b.call("Gather", [b.floats(rows, 3), place], axis=0), (*x.shape, 3), exact=True)


def one_hot(b: Builder) -> None:
    x = _some(b, INT64, least=1)
    if x.rank < 4:
        depth = b.number(2, 4)
        values = b.constant(np.array([0.0, 1.0], np.float32))
        name = b.call("OneHot", [x.name, b.integers(depth, scalar=b.flag()), values])
        b.keep(name, (*x.shape, depth), exact=True)


def scatter(b: Builder) -> None:
    """Write into some rows of a value, by place."""
    x = b.item(least=2)
    if x is None or x.shape[0] == OPEN or int(x.shape[0]) < 1:
        return
    if b.flag():
        index, updates = b.constant(np.array([[0]], np.int64)), b.floats(1, *x.inner)
        b.keep(b.call("ScatterND", [x.name, index, updates]), x.shape)
    else:
        shape = [1] * x.rank
        index = b.constant(np.zeros(shape, np.int64))
        axis = b.number(-x.rank, x.rank - 1)
        if 0 not in x.shape:
            name = b.call("ScatterElements", [x.name, index, b.floats(*shape)], axis=axis)
            b.keep(name, x.shape)


def nonzero(b: Builder) -> None:
    """Count what is not zero: a length that the values decide."""
    x = _some(b, INT64, INT32, BOOL, least=1)
    found = b.call("NonZero", [x.name])
    size = b.call("Shape", [found])
    b.keep_whole(b.call("Gather", [size, b.integers(1, scalar=True)], axis=0), (), INT64)


def shape_of(b: Builder) -> None:
    """Take the shape of a value, or a part of it, or its size."""
    x = b.item() if b.flag() else b.whole_item()
    if x is None:
        return
    if b.flag():
        b.keep_whole(b.call("Size", [x.name]), (), INT64)
        return
    name = b.call("Shape", [x.name])
    if x.rank and b.flag():
        first = b.number(0, x.rank - 1)
        name = b.call("Slice", [name, b.integers(first), b.integers(1 << 40), b.integers(0)])
        b.keep_whole(name, (x.rank - first,), INT64)
        return
    b.keep_whole(name, (x.rank,), INT64)


def rebuilt_shape(b: Builder) -> None:
    """Reshape, expand or fill by a shape that is put together from sizes, as exporters do."""
    x = b.item(least=2)
    if x is None:
        return
    shape = b.call("Shape", [x.name])
    sizes = []
    for axis in range(x.rank):
        place = b.integers(axis if b.flag() else axis - x.rank, scalar=True)
        one = b.call("Gather", [shape, place], axis=0)
        if b.flag():
            one = b.call("Mul", [one, b.integers(1, scalar=True)])
        if b.flag():
            one = b.call("Cast", [b.call("Cast", [one], to=INT32)], to=INT64)
        sizes.append(b.call("Unsqueeze", [one, b.integers(0)]))
    match b.pick(["same", "merged", "split", "expand", "fill"]):
        case "same":
            name = b.call("Reshape", [x.name, b.call("Concat", sizes, axis=0)])
            b.keep(name, x.shape, exact=x.exact)
        case "merged":
            last = b.call("Mul", sizes[1:3]) if x.rank > 2 else sizes[1]
            target = b.call("Concat", [sizes[0], last, *sizes[3:]], axis=0)
            shape_of_it = (x.shape[0], math.prod(x.inner[:2]), *x.inner[2:])
            b.keep(b.call("Reshape", [x.name, target]), shape_of_it, exact=x.exact)
        case "split":
            target = b.call("Concat", [*sizes[:-1], b.integers(1), sizes[-1]], axis=0)
            b.keep(b.call("Reshape", [x.name, target]), (*x.shape[:-1], 1, x.shape[-1]))
        case "expand":
            target = b.call("Concat", sizes, axis=0)
            b.keep(b.call("Expand", [b.filled(0.5, b.number(0, 2)), target]), x.shape)
        case _:
            made = b.call("ConstantOfShape", [b.call("Concat", sizes, axis=0)])
            b.keep(b.call("Add", [x.name, made]), x.shape)


def counted_range(b: Builder) -> None:
    """Count to a size, and compare the numbers with each other: a causal mask."""
    x = b.item(least=2)
    if x is None or x.shape[-1] == OPEN:
        return
    size = b.call("Gather", [b.call("Shape", [x.name]), b.integers(-1, scalar=True)], axis=0)
    row = b.call("Range", [b.integers(0, scalar=True), size, b.integers(1, scalar=True)])
    column = b.call("Unsqueeze", [row, b.integers(1)])
    seen = b.call(b.pick(["LessOrEqual", "Less", "GreaterOrEqual"]), [row, column])
    length = int(x.shape[-1])
    b.keep_whole(seen, (length, length), BOOL)


WHOLE: tuple[Step, ...] = (
    *(arithmetic, arithmetic, of_one, of_two, negate, convert, convert, truncate, total),
    *(largest_place, masked, look_up, one_hot, scatter, nonzero, shape_of, shape_of),
    *(rebuilt_shape, rebuilt_shape, counted_range),
)
