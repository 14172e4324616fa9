"""What exporters write for one operator of today, in several spellings, and near misses of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from tests.fuzzing.builder import OPEN, Item

if TYPE_CHECKING:
    from tests.fuzzing.builder import Builder
    from tests.fuzzing.steps import Step

TIME = "T"
"""A second open dimension; only values of this file have it."""


def _either(b: Builder, op: str, one: str, other: str) -> str:
    """Apply an operator that commutes, in either order."""
    return b.call(op, [one, other] if b.flag() else [other, one])


def _number(b: Builder, x: Item, value: float) -> str:
    return b.filled(value, b.number(0, min(1, x.rank)))


def gelu(b: Builder) -> None:
    x = b.item()
    assert x is not None
    half = _number(b, x, b.pick([0.5, 0.5, 0.5, 0.25]))
    if b.flag():
        inside = (
            b.call("Div", [x.name, _number(b, x, b.pick([math.sqrt(2), 1.4142135, 2.0]))])
            if b.flag()
            else _either(b, "Mul", x.name, _number(b, x, math.sqrt(0.5)))
        )
        bent = b.call("Erf", [inside])
    else:
        cube = (
            b.call("Pow", [x.name, _number(b, x, b.pick([3.0, 3.0, 2.0]))])
            if b.flag()
            else b.call("Mul", [b.call("Mul", [x.name, x.name]), x.name])
        )
        more = _either(b, "Add", x.name, _either(b, "Mul", cube, _number(b, x, 0.044715)))
        bent = b.call("Tanh", [_either(b, "Mul", more, _number(b, x, math.sqrt(2 / math.pi)))])
    gate = _either(b, "Add", bent, _number(b, x, 1.0))
    match b.number(0, 2):
        case 0:
            name = _either(b, "Mul", _either(b, "Mul", x.name, half), gate)
        case 1:
            name = _either(b, "Mul", _either(b, "Mul", x.name, gate), half)
        case _:
            name = _either(b, "Mul", x.name, _either(b, "Mul", gate, half))
    b.keep(name, x.shape)


def gated(b: Builder) -> None:
    """Spell Swish, quick Gelu, Mish, Softplus, hard Sigmoid."""
    x = b.item()
    assert x is not None
    match b.pick(["swish", "quick", "mish", "long mish", "softplus", "hard"]):
        case "swish":
            name = _either(b, "Mul", x.name, b.call("Sigmoid", [x.name]))
        case "quick":
            scaled = _either(b, "Mul", x.name, _number(b, x, b.pick([1.702, 1.0])))
            name = _either(b, "Mul", x.name, b.call("Sigmoid", [scaled]))
        case "mish":
            name = _either(b, "Mul", x.name, b.call("Tanh", [b.call("Softplus", [x.name])]))
        case "softplus" | "long mish" as kind:
            soft = b.call("Tanh", [x.name])
            soft = _either(b, "Add", b.call("Exp", [soft]), _number(b, x, b.pick([1.0, 1.0, 2.0])))
            name = b.call("Log", [soft])
            if kind == "long mish":
                name = _either(b, "Mul", x.name, b.call("Tanh", [name]))
        case _:
            shifted = _either(b, "Add", x.name, _number(b, x, 3.0))
            kept = b.call("Min", [b.call("Relu", [shifted]), _number(b, x, b.pick([6.0, 5.0]))])
            name = b.call("Div", [kept, _number(b, x, 6.0)])
            name = _either(b, "Mul", x.name, name) if b.flag() else name
    b.keep(name, x.shape)


def soft_choices(b: Builder) -> None:
    """Spell softmax, its logarithm, and the logarithm of a sum."""
    x = b.item(least=2)
    if x is None or 0 in x.shape:
        return
    axis = b.pick([-1, x.rank - 1])
    match b.pick(["exp", "shifted", "log", "sum"]):
        case "exp":
            e = b.call("Exp", [b.call("Tanh", [x.name])])
            name = b.call("Div", [e, b.call("ReduceSum", [e, b.integers(axis)])])
        case "shifted":
            centred = b.call("Sub", [x.name, b.call("ReduceMax", [x.name], axes=[axis])])
            e = b.call("Exp", [centred])
            name = b.call("Div", [e, b.call("ReduceSum", [e, b.integers(axis)])])
        case "log":
            name = b.call("Log", [b.call("Softmax", [b.call("Tanh", [x.name])], axis=axis)])
        case _:
            e = b.call("Exp", [b.call("Tanh", [x.name])])
            name = b.call("Log", [b.call("ReduceSum", [e, b.integers(axis)])])
            b.keep(name, (*x.shape[:-1], 1))
            return
    b.keep(name, x.shape)


def group_norm(b: Builder) -> None:
    """Normalize groups of channels by a Reshape and InstanceNormalization, or by moments."""
    groups = b.pick([1, 2, 4])
    height = b.number(1, 3)
    x = b.feed((OPEN, 4, height, 3))
    parted = b.call("Reshape", [x.name, b.integers(0, groups, -1)])
    if b.flag():
        ones = [b.constant(np.full(groups, b.pick([1.0, 1.0, 2.0]), np.float32)),
                b.constant(np.full(groups, b.pick([0.0, 0.0, 1.0]), np.float32))]  # fmt: skip
        normed = b.call("InstanceNormalization", [parted, *ones], epsilon=b.pick([1e-5, 1e-2]))
    else:
        centred = b.call("Sub", [parted, b.call("ReduceMean", [parted], axes=[2])])
        square = b.call("Mul", [centred, centred])
        spread = b.call("ReduceMean", [square], axes=[b.pick([2, -1])])
        root = b.call("Sqrt", [b.call("Add", [spread, b.filled(1e-2)])])
        normed = b.call("Div", [centred, root])
    target = b.call("Shape", [x.name]) if b.flag() else b.integers(0, 4, height, 3)
    name = b.call("Reshape", [normed, target])
    channels = b.pick([(4, 1, 1), (1, 4, 1, 1), (1, 1, 1)])
    name = _either(b, "Mul", name, b.floats(*channels))
    if b.flag():
        name = _either(b, "Add", name, b.floats(*b.pick([channels, (1,)])))
    b.keep(name, x.shape)


def root_norm(b: Builder) -> None:
    """Normalize by the root mean square, or by the length, of a value with a second open axis."""
    width = b.pick([4, 6])
    x = b.feed((OPEN, TIME, width) if b.flag() else (OPEN, width), shared=False)
    square = (
        b.call("Pow", [x.name, b.filled(2.0, b.number(0, 1))])
        if b.flag()
        else b.call("Mul", [x.name, x.name])
    )
    if b.flag():
        mean = b.call("ReduceMean", [square], axes=[-1])
    else:
        mean = b.call("Div", [b.call("ReduceSum", [square, b.integers(-1)]),
                              b.filled(float(b.pick([width, 1])))])  # fmt: skip
    inside = _either(b, "Add", mean, b.filled(b.pick([1e-6, 1e-2]), b.number(0, 1)))
    root = b.call("Sqrt", [inside]) if b.flag() else b.call("Pow", [inside, b.filled(0.5)])
    match b.number(0, 2):
        case 0:
            name = b.call("Div", [x.name, root])
        case 1:
            name = _either(b, "Mul", x.name, b.call("Reciprocal", [root]))
        case _:
            name = _either(b, "Mul", x.name, b.call("Div", [b.filled(1.0), root]))
    scale = b.floats(*b.pick([(width,), (1, width), (1,), ()]))
    name = _either(b, "Mul", name, scale)
    if b.flag():
        name = b.call("Cast", [b.call("Cast", [name], to=TensorProto.DOUBLE)], to=1)
    b.loose.append(Item(name, x.shape))


def _rotated(b: Builder, x: str, width: int) -> str:
    """Turn the halves of the last axis, or something near it."""
    half = width // 2 + b.pick([0, 0, 0, 1])
    if b.flag():
        first, second = b.calls("Split", [x, b.integers(half, width - half)], 2, axis=-1)
    else:
        ends = [(0, half), (half, b.pick([width, 1 << 40]))]
        first, second = (
            b.call("Slice", [x, b.integers(s), b.integers(e), b.integers(b.pick([-1, 3]))])
            for s, e in ends
        )
    return b.call("Concat", [b.call("Neg", [second]), first], axis=-1)


def rotary(b: Builder) -> None:
    """Rotate positions by halves, with tables of constants or of computed angles."""
    heads, length, width = b.pick([1, 2]), 3, 4
    x = b.feed((OPEN, heads, length, width))
    if b.flag():
        shape = b.pick([(length, width), (1, 1, length, width), (1, length, width)])
        cosine, sine = b.floats(*shape), b.floats(*shape)
    else:
        angles = b.floats(length, width // 2)
        both = b.call("Concat", [angles, angles], axis=-1)
        cosine, sine = b.call("Cos", [both]), b.call("Sin", [both])
        if b.flag():
            cosine, sine = (b.call("Unsqueeze", [v, b.integers(0, 1)]) for v in (cosine, sine))
    straight = _either(b, "Mul", x.name, cosine)
    turned = _either(b, "Mul", _rotated(b, x.name, width), sine)
    b.keep(_either(b, "Add", straight, turned), x.shape)


def _heads(b: Builder, x: str, count: int, width: int, order: list[int]) -> str:
    """Multiply by weights and part the result into heads."""
    rows = b.call("MatMul", [x, b.floats(8, count * width)])
    if b.flag():
        rows = _either(b, "Add", rows, b.floats(count * width))
    parted = b.call("Reshape", [rows, b.integers(0, b.pick([0, -1]), count, width)])
    return b.call("Transpose", [parted], perm=order)


def _repeated(b: Builder, x: str, groups: int, times: int, length: str) -> str:
    """Let several query heads share one of keys or values: Unsqueeze, Expand, Reshape."""
    if times == 1:
        return x
    wide = b.call("Unsqueeze", [x, b.integers(2)])
    shape = b.call("Concat", [b.integers(1), b.integers(groups, times), length, b.integers(4)],
                   axis=0)  # fmt: skip
    spread = b.call("Expand", [wide, shape])
    return b.call("Reshape", [spread, b.integers(0, groups * times, -1, 4)])


def attention(b: Builder) -> None:
    """Spell attention over an open time axis: masks, shared heads, scales at several places."""
    x = b.feed((OPEN, TIME, 8), shared=False)
    groups, times = b.pick([(2, 1), (1, 2), (2, 2)])
    count = groups * times
    keys_turned = b.flag()
    q = _heads(b, x.name, count, 4, [0, 2, 1, 3])
    k = _heads(b, x.name, groups, 4, [0, 2, 1, 3])
    v = _heads(b, x.name, groups, 4, [0, 2, 1, 3])
    sizes = b.call("Shape", [x.name])
    length = b.call("Slice", [sizes, b.integers(1), b.integers(2), b.integers(0)])
    k, v = (_repeated(b, one, groups, times, length) for one in (k, v))
    if keys_turned and b.flag():
        q = _either(b, "Mul", q, b.filled(b.pick([0.5, 0.7])))
    scores = b.call("MatMul", [q, b.call("Transpose", [k], perm=[0, 1, 3, 2])])
    if not keys_turned:
        scores = b.call(b.pick(["Div", "Mul"]), [scores, b.filled(2.0, b.number(0, 1))])
    scores = _masked(b, scores, length)
    shares = b.call("Softmax", [scores], axis=b.pick([-1, 3]))
    if b.number(0, 3) == 0:
        shares = b.call("Where", [b.call("IsNaN", [shares]), b.filled(0.0), shares])
    mixed = b.call("Transpose", [b.call("MatMul", [shares, v])], perm=[0, 2, 1, 3])
    rows = b.call("Reshape", [mixed, b.integers(0, 0, count * 4)])
    name = b.call("MatMul", [rows, b.floats(count * 4, 8)])
    b.loose.append(Item(name, x.shape))
    if b.number(0, 5) == 0:
        b.loose.append(Item(b.pick([scores, shares, mixed]), (OPEN, TIME, TIME, TIME)))


def _masked(b: Builder, scores: str, length: str) -> str:
    """Add a causal mask, one that is fed, or none; or replace what is masked."""
    how = b.pick(["none", "causal", "fed", "where"])
    if how == "none":
        return scores
    if how == "fed":
        mask = b.feed((OPEN, 1, 1, TIME), shared=False)
        return _either(b, "Add", scores, mask.name)
    end = b.call("Squeeze", [length, b.integers(0)])
    row = b.call("Range", [b.integers(0, scalar=True), end, b.integers(1, scalar=True)])
    column = b.call("Unsqueeze", [row, b.integers(1)])
    seen = b.call(b.pick(["LessOrEqual", "LessOrEqual", "Less"]), [row, column])
    if how == "where":
        return b.call("Where", [seen, scores, b.filled(-1e4)])
    return b.call("Add", [scores, b.call("Where", [seen, b.filled(0.0), b.filled(-1e4)])])


def scaled_convolution(b: Builder) -> None:
    """Convolve, then add and multiply by a constant per channel, or by something near it."""
    x = b.feed((OPEN, 2, 4, 4))
    channels = b.pick([2, 3])
    operands = [x.name, b.floats(channels, 2, 3, 3), *([b.floats(channels)] * b.flag())]
    name = b.call("Conv", operands, pads=[1] * 4)
    if b.number(0, 4) == 0:
        b.keep(name, (OPEN, channels, 4, 4))
    for _ in range(b.number(1, 2)):
        op = b.pick(["Add", "Mul", "Sub", "Div"])
        shape = b.pick([(channels, 1, 1), (1, channels, 1, 1), (1,), (), (4,), (1, 1, 1)])
        constant = b.positive(*shape)
        name = b.call(op, [name, constant]) if op == "Div" or b.flag() else b.call(
            op, [constant, name])  # fmt: skip
    b.keep(name, (OPEN, channels, 4, 4))


def turned_product(b: Builder) -> None:
    """Multiply by a transposed matrix, or transposed rows, with Reshapes around."""
    x = b.item(least=2)
    if x is None or not isinstance(x.shape[-1], int):
        return
    width, columns = int(x.shape[-1]), b.number(1, 4)
    weight = b.call("Transpose", [b.floats(columns, width)], perm=[1, 0])
    if b.flag() and x.rank == 3:
        rows = b.call("Reshape", [x.name, b.integers(-1, width)])
        made = b.call("MatMul", [rows, weight])
        made = b.call("Add", [made, b.floats(columns)]) if b.flag() else made
        shape = [-1, int(x.shape[1]), columns]
        b.keep(b.call("Reshape", [made, b.integers(*shape)]), (*x.shape[:-1], columns))
        return
    name = b.call("MatMul", [x.name, weight])
    for _ in range(b.number(0, 2)):
        name = _either(b, b.pick(["Add", "Mul"]), name, b.floats(*b.pick([(columns,), (1,), ()])))
    b.keep(name, (*x.shape[:-1], columns))


def tied(b: Builder) -> None:
    """Multiply by one matrix in two places, once transposed."""
    x = b.feed((OPEN, 3))
    weight = b.floats(3, 3)
    one = b.call("MatMul", [x.name, weight])
    other = b.call("MatMul", [one, b.call("Transpose", [weight], perm=[1, 0])])
    b.keep(one, x.shape)
    b.keep(b.call("Add", [other, x.name]), x.shape)


SPELLINGS: tuple[Step, ...] = (
    *(gelu, gelu, gated, gated, soft_choices, group_norm, root_norm, root_norm, rotary, rotary),
    *(attention, attention, scaled_convolution, turned_product, tied),
)
