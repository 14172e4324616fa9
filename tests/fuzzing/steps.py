"""Steps that random graphs are made of: single operators, and spellings that passes look for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from onnx import TensorProto
from onnx import helper as h

from tests.fuzzing.builder import OPEN, Builder, Item

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[Builder], None]

SMOOTH = ("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Softsign", "Sin", "Cos",
          "Atan", "Asinh", "Identity", "LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid",
          "HardSwish")  # fmt: skip
ABRUPT = ("Floor", "Ceil", "Round", "Sign", "ThresholdedRelu", "Shrink")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
              "ReduceLogSumExp")  # fmt: skip
_LARGEST = 1 << 12


def _elements(item: Item) -> int:
    return math.prod(d if isinstance(d, int) else 3 for d in item.shape)


def smooth(b: Builder) -> None:
    x = b.item()
    assert x is not None
    op = b.pick(SMOOTH)
    moved = op in {"Identity", "Abs", "Neg", "Relu"}
    b.keep(b.call(op, [x.name]), x.shape, exact=x.exact and moved)


def abrupt(b: Builder) -> None:
    x = b.item(exact=True)
    if x is not None:
        b.keep(b.call(b.pick(ABRUPT), [x.name]), x.shape)


def softmax(b: Builder) -> None:
    x = b.item(least=1)
    if x is not None:
        op = b.pick(["Softmax", "LogSoftmax"])
        b.keep(b.call(op, [x.name], axis=b.number(-x.rank, x.rank - 1)), x.shape)


def clip(b: Builder) -> None:
    x = b.item()
    assert x is not None
    low, high = b.pick([("", 6.0), (0.0, ""), (0.0, 6.0), (-1.0, 1.0)])
    bounds = [b.filled(v) if v != "" else "" for v in (low, high)]
    b.keep(b.call("Clip", [x.name, *bounds]), x.shape, exact=x.exact)


def cast(b: Builder) -> None:
    x = b.item()
    assert x is not None
    between = b.pick([TensorProto.FLOAT, TensorProto.DOUBLE])
    wide = b.call("Cast", [x.name], to=between)
    b.keep(b.call("Cast", [wide], to=TensorProto.FLOAT), x.shape, exact=x.exact)


def dropout(b: Builder) -> None:
    x = b.item()
    assert x is not None
    b.keep(b.call("Dropout", [x.name], b.number(1, 2)), x.shape, exact=x.exact)


def with_constant(b: Builder) -> None:
    """Combine a value with a constant that broadcasts, perhaps to more axes."""
    x = b.item()
    assert x is not None
    inner = list(x.shape[1:]) if x.shape and x.shape[0] == OPEN else list(x.shape)
    shape = [d if b.flag() else 1 for d in inner][b.number(0, len(inner)) :]
    widened = b.flag() and x.rank < 4 and not any(d == OPEN for d in x.shape)
    if widened:
        shape = [1] * (x.rank + 1 - len(shape)) + shape
    constant = b.positive(*(int(d) for d in shape))
    op = b.pick(["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"])
    op = "Add" if op == "PRelu" and widened else op
    order = [x.name, constant]
    if b.flag() and op in {"Add", "Mul", "Max", "Min"}:
        order.reverse()
    b.keep(b.call(op, order), ((1, *x.shape) if widened else x.shape))


def neutral(b: Builder) -> None:
    """Add nothing or multiply by one, with constants of several ranks."""
    x = b.item(least=1)
    if x is None:
        return
    op, value = b.pick([("Add", 0.0), ("Mul", 1.0), ("Sub", 0.0), ("Div", 1.0), ("Pow", 1.0)])
    b.keep(b.call(op, [x.name, b.filled(value, b.number(0, x.rank))]), x.shape)


def of_two(b: Builder) -> None:
    x = b.item()
    assert x is not None
    y = b.pick([i for i in b.items if i.shape == x.shape])
    op = b.pick(["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"])
    more = [x.name] * b.number(0, 3) if op in {"Sum", "Mean", "Max", "Min"} else []
    b.keep(b.call(op, [x.name, y.name, *more]), x.shape)


def choose(b: Builder) -> None:
    """Compare, combine and choose; only where rounding cannot turn the comparison."""
    x = b.item(exact=True)
    if x is None:
        return
    y = b.pick([i for i in b.items if i.shape == x.shape])
    bound = b.filled(0.25, b.number(0, min(x.rank, 1)))
    test = b.call(b.pick(["Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"]),
                  [x.name, bound])  # fmt: skip
    if b.flag():
        test = b.call("Not", [test])
    if b.flag():
        other = b.call("IsNaN", [x.name])
        test = b.call(b.pick(["And", "Or", "Xor"]), [test, other])
    b.keep(b.call("Where", [test, x.name, y.name]), x.shape)


def reduce(b: Builder) -> None:
    x = b.item(least=1)
    if x is None:
        return
    kept = b.number(0, 1)
    axes = sorted({b.number(0, x.rank - 1) for _ in range(b.number(1, 2))})
    signed = [a - x.rank if b.flag() else a for a in axes]
    if b.flag():
        name = b.call("ReduceSum", [x.name, b.integers(*signed)], keepdims=kept)
    else:
        name = b.call(b.pick(REDUCTIONS), [x.name], axes=signed, keepdims=kept)
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if kept or i not in axes]
    b.keep(name, tuple(shape))


def transpose(b: Builder) -> None:
    x = b.item(least=2)
    if x is None:
        return
    # The open axis stays in front.
    rest = list(range(1, x.rank)) if x.shape[0] == OPEN else list(range(x.rank))
    order: list[int] = []
    while rest:
        order.append(rest.pop(b.number(0, len(rest) - 1)))
    order = [0, *order] if x.shape[0] == OPEN else order
    b.keep(b.call("Transpose", [x.name], perm=order), tuple(x.shape[a] for a in order),
           exact=x.exact)  # fmt: skip


def reshape(b: Builder) -> None:
    x = b.item(least=1)
    if x is None:
        return
    open_ = x.shape[0] == OPEN
    total = math.prod(x.inner) if open_ else math.prod(int(d) for d in x.shape)
    factor = b.pick([d for d in range(1, total + 1) if total % d == 0]) if total else 1
    sizes = [factor, total // factor] if b.flag() else [total]
    target = [int(s) for s in sizes]
    if b.flag():
        target[b.number(0, len(target) - 1)] = -1
    head: list[int | str] = [OPEN] if open_ else []
    front = [b.pick([0, -1] if -1 not in target else [0])] if open_ else []
    name = b.call("Reshape", [x.name, b.integers(*front, *target)])
    b.keep(name, (*head, *sizes), exact=x.exact)


def computed_reshape(b: Builder) -> None:
    """Reshape by a shape that is taken apart and put together, as exporters do."""
    x = b.item(least=2)
    if x is None:
        return
    shape = b.call("Shape", [x.name])
    if b.flag():
        first = b.call("Slice", [shape, b.integers(0), b.integers(1), b.integers(0)])
    else:
        index = b.integers(0, scalar=True)
        taken = b.call("Gather", [shape, index], axis=0)
        first = b.call("Unsqueeze", [taken, b.integers(0)])
    rest = b.integers(-1) if b.flag() else b.integers(math.prod(x.inner))
    target = b.call("Concat", [first, rest], axis=0)
    b.keep(b.call("Reshape", [x.name, target]), (x.shape[0], math.prod(x.inner)), exact=x.exact)


def computed_constant(b: Builder) -> None:
    """Add zeros as long as the batch, and numbers up to a size."""
    x = b.item(least=2)
    if x is None:
        return
    shape = b.call("Shape", [x.name])
    zeros = b.call("ConstantOfShape", [shape])
    total = b.call("Add", [x.name, zeros])
    last = b.call("Gather", [shape, b.integers(-1, scalar=True)], axis=0)
    counted = b.call("Range", [b.integers(0, scalar=True), last, b.integers(1, scalar=True)])
    b.keep(b.call("Add", [total, b.call("Cast", [counted], to=TensorProto.FLOAT)]), x.shape)


def flatten(b: Builder) -> None:
    x = b.item(least=2)
    if x is not None:
        b.keep(b.call("Flatten", [x.name], axis=b.pick([1, 1 - x.rank])),
               (x.shape[0], math.prod(x.inner)), exact=x.exact)  # fmt: skip


def unsqueeze(b: Builder) -> None:
    x = b.item(least=1)
    if x is None or x.rank > 3:
        return
    axis = b.number(1, x.rank)
    given = axis - x.rank - 1 if b.flag() else axis
    name = b.call("Unsqueeze", [x.name, b.integers(given)])
    b.keep(name, (*x.shape[:axis], 1, *x.shape[axis:]), exact=x.exact)


def squeeze(b: Builder) -> None:
    fit = [i for i in b.items if 1 in i.shape]
    if not fit:
        return
    x: Item = b.pick(fit)
    axis = b.pick([i for i, d in enumerate(x.shape) if d == 1])
    name = b.call("Squeeze", [x.name, b.integers(axis - x.rank if b.flag() else axis)])
    b.keep(name, (*x.shape[:axis], *x.shape[axis + 1 :]), exact=x.exact)


def slice_(b: Builder) -> None:
    x = b.item(least=2)
    if x is None:
        return
    axis = b.number(1, x.rank - 1)
    size = int(x.shape[axis])
    start, end, step = b.number(-size - 1, size), b.number(-size, size + 2), b.pick([1, 2, -1, -2])
    taken = len(range(*slice(start, end, step).indices(size)))
    if step < 0 or taken < 1:
        start, end, step, taken = -1, -size - 1, -1, size
    given = [b.integers(v) for v in (start, end, axis - x.rank if b.flag() else axis, step)]
    name = b.call("Slice", [x.name, *given])
    b.keep(name, (*x.shape[:axis], taken, *x.shape[axis + 1 :]), exact=x.exact)


def split(b: Builder) -> None:
    fit = [i for i in b.items if i.rank > 1 and isinstance(i.shape[-1], int) and i.shape[-1] > 1]
    if not fit:
        return
    x: Item = b.pick(fit)
    size = int(x.shape[-1])
    first = b.number(1, size - 1)
    sizes = b.integers(first, size - first)
    names = b.calls("Split", [x.name, sizes], 2, axis=-1 if b.flag() else x.rank - 1)
    parts = [b.keep(n, (*x.shape[:-1], s), exact=x.exact)
             for n, s in zip(names, (first, size - first), strict=True)]  # fmt: skip
    if b.flag():
        joined = b.call("Concat", [p.name for p in b.pick([parts, parts[::-1]])], axis=-1)
        b.keep(joined, x.shape, exact=x.exact)


def concat(b: Builder) -> None:
    x = b.item(least=2)
    if x is None or _elements(x) > _LARGEST:
        return
    axis = b.number(1, x.rank - 1)
    fit = [i for i in b.items if i.rank == x.rank
           and all(p == q for k, (p, q) in enumerate(zip(i.shape, x.shape, strict=True))
                   if k != axis)]  # fmt: skip
    parts: list[Item] = [x] + [b.pick(fit) for _ in range(b.number(0, 2))]
    total = sum(int(p.shape[axis]) for p in parts)
    name = b.call("Concat", [p.name for p in parts], axis=axis - x.rank if b.flag() else axis)
    b.keep(name, (*x.shape[:axis], total, *x.shape[axis + 1 :]),
           exact=all(p.exact for p in parts))  # fmt: skip


def gather(b: Builder) -> None:
    x = b.item(least=2)
    if x is None:
        return
    axis = b.number(1, x.rank - 1)
    size = int(x.shape[axis])
    places = [b.number(-size, size - 1) for _ in range(b.number(1, 3))]
    scalar = b.flag()
    index = b.integers(*places, scalar=scalar)
    made = () if scalar else (len(places),)
    b.keep(b.call("Gather", [x.name, index], axis=axis),
           (*x.shape[:axis], *made, *x.shape[axis + 1 :]), exact=x.exact)  # fmt: skip


def expand(b: Builder) -> None:
    x = b.item(least=1)
    if x is None or _elements(x) > _LARGEST:
        return
    inner = [b.pick([1, 2]) if d == 1 else b.pick([1, int(d)]) for d in x.shape[1:]]
    shape = tuple(max(int(d), k) for d, k in zip(x.shape[1:], inner, strict=True))
    b.keep(b.call("Expand", [x.name, b.integers(1, *inner)]), (x.shape[0], *shape), exact=x.exact)


def tile(b: Builder) -> None:
    x = b.item(least=2)
    if x is None or _elements(x) > _LARGEST:
        return
    times = [1, *(b.number(1, 2) for _ in x.inner)]
    shape = tuple(d * t for d, t in zip(x.inner, times[1:], strict=True))
    b.keep(b.call("Tile", [x.name, b.integers(*times)]), (x.shape[0], *shape), exact=x.exact)


def cumulate(b: Builder) -> None:
    x = b.item(least=2)
    if x is not None:
        b.keep(b.call("CumSum", [x.name, b.integers(x.rank - 1, scalar=True)]), x.shape)


def triangle(b: Builder) -> None:
    x = b.item(least=2)
    if x is not None:
        b.keep(b.call("Trilu", [x.name], upper=b.number(0, 1)), x.shape, exact=x.exact)


def branch(b: Builder) -> None:
    """Choose between two graphs that read this one's values, by a constant or computed test."""
    x = b.item()
    assert x is not None
    total = b.call("ReduceMax", [b.root.inputs[0].name], keepdims=0)
    test = b.call("Greater", [total, b.filled(b.pick([-100.0, 100.0]))])
    graphs = {}
    for key, op in (("then_branch", "Relu"), ("else_branch", b.pick(["Neg", "Identity"]))):
        made = b.name()
        info = h.make_tensor_value_info(made, TensorProto.FLOAT, [None] * x.rank)
        graphs[key] = h.make_graph([h.make_node(op, [x.name], [made])], key, [], [info])
    b.keep(b.call("If", [test], **graphs), x.shape)


MOVEMENTS: tuple[Step, ...] = (
    *(transpose, transpose, reshape, reshape, computed_reshape, flatten, unsqueeze, unsqueeze),
    *(squeeze, squeeze, slice_, slice_, split, concat, gather, expand, tile),
)
"""Steps that compute nothing."""

STEPS: tuple[Step, ...] = (
    *(smooth, smooth, abrupt, softmax, clip, cast, dropout, with_constant, with_constant, neutral),
    *(of_two, choose, reduce, computed_constant, cumulate, triangle, branch),
    *MOVEMENTS,
)
