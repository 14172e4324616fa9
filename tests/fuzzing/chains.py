"""Chains of movements, repeated computations and algebra: what there is to simplify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from tests.fuzzing.builder import OPEN
from tests.fuzzing.steps import MOVEMENTS

if TYPE_CHECKING:
    from tests.fuzzing.builder import Builder
    from tests.fuzzing.steps import Step


def moved(b: Builder) -> None:
    """Move one value several times."""
    was, b.sticky = b.sticky, True
    try:
        for _ in range(b.number(2, 5)):
            b.attempt(b.pick(MOVEMENTS))
    finally:
        b.sticky = was


def moved_whole(b: Builder) -> None:
    """Move integers or truths several times."""
    dtype = b.pick([TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL])
    given = [i for i in b.whole if i.dtype == dtype] or [b.feed((OPEN, 3, 2), dtype)]
    floats, b.items = b.items, list(given)
    try:
        moved(b)
        made = b.items[len(given) :]
    finally:
        b.items = floats
    for item in made:
        b.keep_whole(item.name, item.shape, dtype)


def empty(b: Builder) -> None:
    """Let a value without elements take part."""
    x = b.feed(b.pick([(OPEN, 0, 3), (0, 4), (2, 0), (0,), (OPEN, 3, 0)]))
    for _ in range(b.number(1, 3)):
        b.attempt(b.pick(MOVEMENTS))
    if b.flag() and x.rank > 1:
        axis = b.number(1, x.rank - 1)
        size = b.number(1, 3)
        more = b.floats(*(1 if d == OPEN else size if i == axis else int(d)
                          for i, d in enumerate(x.shape)))  # fmt: skip
        if x.shape[0] != OPEN:
            shape = (*x.shape[:axis], int(x.shape[axis]) + size, *x.shape[axis + 1 :])
            b.keep(b.call("Concat", [x.name, more], axis=axis), shape)


def scalar(b: Builder) -> None:
    """Let a value without axes take part."""
    x = b.feed(())
    op = b.pick(["Unsqueeze", "Reshape", "Expand", "Add", "Identity"])
    match op:
        case "Unsqueeze":
            b.keep(b.call(op, [x.name, b.integers(0)]), (1,), exact=True)
        case "Reshape" | "Expand":
            b.keep(b.call(op, [x.name, b.integers(1, 1)]), (1, 1), exact=True)
        case "Add":
            y = b.item()
            assert y is not None
            b.keep(b.call(op, [x.name, y.name]), y.shape)
        case _:
            b.keep(b.call(op, [x.name]), ())


def again(b: Builder) -> None:
    """Compute something a second time."""
    made = {name: n for n in b.nodes for name in n.output}
    fit = [i for i in b.items if i.name in made and len(made[i.name].output) == 1]
    if not fit:
        return
    x = b.pick(fit)
    copy = onnx.NodeProto()
    copy.CopyFrom(made[x.name])
    copy.output[0] = b.name()
    b.nodes.append(copy)
    y = b.keep(copy.output[0], x.shape, exact=x.exact)
    if b.flag():
        b.keep(b.call(b.pick(["Add", "Mul", "Sub"]), [x.name, y.name]), x.shape)


def twice(b: Builder) -> None:
    """Apply two operators that may be one, or none."""
    x = b.item()
    assert x is not None
    one, other = b.pick(
        [("Neg", "Neg"), ("Relu", "Relu"), ("Abs", "Abs"), ("Abs", "Relu"), ("Neg", "Abs"),
         ("Floor", "Floor"), ("Sqrt", "Sqrt"), ("Identity", "Relu"), ("Sign", "Sign"),
         ("Reciprocal", "Reciprocal"), ("Exp", "Log"), ("Neg", "Relu"), ("Relu", "Neg")]
    )  # fmt: skip
    if one in {"Sqrt", "Reciprocal"}:
        x = b.keep(b.call("Add", [b.call("Abs", [x.name]), b.filled(0.5)]), x.shape)
    if one in {"Floor", "Sign"} and not x.exact:
        return
    if one == "Exp":
        x = b.keep(b.call("Tanh", [x.name]), x.shape)
    first = b.keep(b.call(one, [x.name]), x.shape)
    b.keep(b.call(other, [first.name]), x.shape)


def with_numbers(b: Builder) -> None:
    """Apply several constants in a row."""
    x = b.item()
    assert x is not None
    name = x.name
    for _ in range(b.number(2, 3)):
        op, value = b.pick([("Add", 1.5), ("Mul", 2.0), ("Sub", 0.25), ("Div", 4.0), ("Mul", -0.5),
                            ("Mul", 0.0), ("Max", 0.0), ("Min", 3.0), ("Add", -1.5)])  # fmt: skip
        wide = (int(x.shape[-1]),) if x.rank and x.shape[-1] != OPEN and b.flag() else ()
        constant = b.constant(np.full(wide, value, np.float32))
        order = [name, constant] if op in {"Div"} or b.flag() else [constant, name]
        name = b.call(op, order)
        if b.number(0, 3) == 0:
            b.keep(name, x.shape)
    b.keep(name, x.shape)


def with_itself(b: Builder) -> None:
    """Combine a value with itself."""
    x = b.item()
    assert x is not None
    op = b.pick(["Add", "Sub", "Mul", "Max", "Min", "Where", "Sum"])
    if op == "Where":
        test = b.constant(np.array(b.flag()))
        y = b.pick([i for i in b.items if i.shape == x.shape])
        b.keep(b.call(op, [test, x.name, y.name]), x.shape)
        return
    b.keep(b.call(op, [x.name, x.name]), x.shape)


def bounded(b: Builder) -> None:
    """Bound a value twice."""
    x = b.item()
    assert x is not None
    name = x.name
    for _ in range(2):
        match b.pick(["Clip", "Relu", "Max", "Min", "open"]):
            case "Clip":
                low, high = b.pick([(-1.0, 1.0), (0.0, 6.0), (0.0, 0.5)])
                name = b.call("Clip", [name, b.filled(low), b.filled(high)])
            case "Relu":
                name = b.call("Relu", [name])
            case "open":
                name = b.call("Clip", [name, "", b.filled(2.0)])
            case op:
                name = b.call(op, [name, b.filled(b.pick([0.0, 1.0]))])
    b.keep(name, x.shape)


def powers(b: Builder) -> None:
    """Spell squares, roots and reciprocals."""
    x = b.item()
    assert x is not None
    positive = b.call("Add", [b.call("Abs", [x.name]), b.filled(1.0)])
    match b.pick(["square", "root", "inverse", "divided", "squared root"]):
        case "square":
            name = b.call("Pow", [x.name, b.filled(b.pick([2.0, 1.0, 3.0, 0.0]))])
        case "root":
            name = b.call("Pow", [positive, b.filled(b.pick([0.5, -0.5, -1.0]))])
        case "inverse":
            name = b.call("Reciprocal", [b.call("Sqrt", [positive])])
        case "divided":
            name = b.call("Div", [x.name, b.call("Sqrt", [positive])])
        case _:
            name = b.call("Sqrt", [b.call("Mul", [x.name, x.name])])
    b.keep(name, x.shape)


CHAINS: tuple[Step, ...] = (
    *(moved, moved, moved, moved_whole, moved_whole, empty, scalar, again, again, twice, twice),
    *(with_numbers, with_numbers, with_itself, bounded, powers),
)
