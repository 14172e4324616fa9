"""Which micro-models are measured: classes of kernels with shapes drawn from real networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.behind import models_behind
from graphopt.cost.profiling.copies import copies
from graphopt.cost.profiling.fused import fused_models
from graphopt.cost.profiling.plans import (
    FAVOURED,
    favoured,
    image,
    numbered,
    only,
    strided,
    there_and_back,
)
from graphopt.cost.profiling.shapes import Shapes
from graphopt.cost.profiling.tiny import tiny_models
from graphopt.cost.profiling.uneven import uneven_models

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.cost.profiling.builder import Builder, Flow, Precision
    from graphopt.cost.profiling.micro import Micro, Unit
    from graphopt.cost.profiling.plans import Plan
    from graphopt.cost.profiling.shapes import ConvShape

SEED = 0


def micro_models(seed: int = SEED) -> list[Micro]:
    """Return all micro-models, in the same order and with the same shapes for the same seed."""
    found = list(_products(Shapes(seed), "float32"))
    for precision, machines in FAVOURED.items():
        # The same shapes again: a kernel is compared with itself in other types.
        found.extend(favoured(_products(Shapes(seed), precision), machines))
    shapes = Shapes(seed + 1)
    found.extend(_float_only(shapes))
    found.extend(_between_products(Shapes(seed + 2), "float32"))
    for precision, machines in FAVOURED.items():
        found.extend(favoured(_between_products(Shapes(seed + 2), precision), machines))
    for rest in (uneven_models, copies, models_behind):
        found.extend(rest("float32"))
        for precision, machines in FAVOURED.items():
            found.extend(only(rest(precision), machines))
    found.extend(tiny_models())
    found.extend(fused_models())
    return found


def _products(shapes: Shapes, precision: Precision) -> Iterator[Micro]:
    """Yield convolutions and fully connected layers."""
    yield from numbered("conv", precision, [there_and_back(s) for s in shapes.spatial(26)])
    pairs = [there_and_back(s) for s in shapes.pointwise(26)]
    yield from numbered("pointwise", precision, pairs)
    yield from numbered("depthwise", precision, [_same(s) for s in shapes.depthwise(18)])
    yield from numbered("grouped", precision, [_same(s) for s in shapes.grouped(8)])
    fans = [_first(s) for s in shapes.first(6)]
    yield from numbered("first", precision, fans, is_fan=True)
    yield from numbered("strided", precision, [strided(s) for s in shapes.depthwise(5)])
    rows = [_linear(*s) for s in shapes.linear(12)]
    yield from numbered("linear", precision, rows, every=3)
    yield from numbered("vector", precision, [_linear(*s) for s in shapes.vectors(12)])


def _same(s: ConvShape) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.conv(b, flows[0], s.outputs, s.kernel, groups=s.groups, activation="Relu")

    return (image(s.inputs, s.size),), unit


def _first(s: ConvShape) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.conv(b, flows[0], s.outputs, s.kernel, 2, activation="Relu")
        return op.global_pool(b, made)

    return (image(s.inputs, s.size),), unit


def _linear(rows: int, inputs: int, outputs: int) -> Plan:
    shape = (rows, inputs) if rows < 8 else (1, rows, inputs)

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.linear(b, flows[0], outputs)
        return made if inputs == outputs else op.linear(b, made, inputs)

    return (shape,), unit


# -- what stays in float -------------------------------------------------------------------------

_CHEAP = ("Relu", "Sqrt", "LeakyRelu")
_COSTLY = ("Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Erf", "Exp", "Softplus", "Elu")
_BINARY = ("Sub", "Div", "Pow")


def _float_only(shapes: Shapes) -> Iterator[Micro]:
    images = shapes.images(64)
    for index, name in enumerate((*_COSTLY, *_CHEAP)):
        sizes = [image(*images[2 * index + i]) for i in range(2)]
        yield from numbered(name, "float32", [((s,), _unary(name)) for s in sizes], every=2)
    for index, name in enumerate(_BINARY):
        shape = image(*images[24 + index])
        yield from numbered(name, "float32", [((shape, shape), _binary(name))])
    clips = [((image(*images[32 + i]),), _clip) for i in range(2)]
    yield from numbered("Clip", "float32", clips)
    sequences = ((128, 768), (197, 192), (64, 64), (16, 256))
    norms = [(((1, *s),), _norm) for s in sequences]
    yield from numbered("LayerNormalization", "float32", norms)
    means = [(((1, *s),), _mean) for s in sequences[:3]]
    yield from numbered("ReduceMean", "float32", means)
    yield from numbered("LSTM", "float32", [_recurrent("LSTM", *s) for s in _SEQUENCES])
    yield from numbered("GRU", "float32", [_recurrent("GRU", *s) for s in _SEQUENCES[:2]])
    ups = [_up(c, n) for c, n in ((64, 28), (32, 56), (128, 14), (16, 64))]
    yield from numbered("ConvTranspose", "float32", ups)
    tables = [_table(*s) for s in ((128, 512, 8000), (16, 64, 512), (64, 256, 2000))]
    yield from numbered("Gather", "float32", tables)
    borders = [_border(*images[40 + i]) for i in range(4)]
    yield from numbered("quantize", "u8s8", borders)
    pads = [_padded(*images[44 + i]) for i in range(2)]
    yield from numbered("Pad", "float32", pads)
    for bits in (4, 8):
        packed = [_packed(*s, bits) for s in ((1, 512, 512), (1, 1024, 256), (32, 256, 256))]
        yield from numbered(f"packed{bits}", "float32", packed)
    smooth = [_smooth(*s) for s in ((32, 28), (16, 56))]
    yield from numbered("linear-resize", "float32", smooth)


_SEQUENCES = ((1, 128), (16, 64), (8, 256))
"""Steps and width."""


def _unary(name: str) -> Unit:
    return lambda b, flows: op.unary(b, name, flows[0])


def _binary(name: str) -> Unit:
    return lambda b, flows: op.binary(b, name, flows[0], flows[1])


def _clip(b: Builder, flows: list[Flow]) -> Flow:
    return op.clip(b, flows[0], -1.0, 1.0 - b.unit / 100)


def _norm(b: Builder, flows: list[Flow]) -> Flow:
    return op.layer_norm(b, flows[0])


def _mean(b: Builder, flows: list[Flow]) -> Flow:
    return op.binary(b, "Sub", flows[0], op.reduce_mean(b, flows[0], [2]))


def _recurrent(name: str, steps: int, width: int) -> Plan:
    return ((steps, 1, width),), lambda b, flows: op.recurrent(b, name, flows[0], width)


def _up(channels: int, size: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.pool(b, "MaxPool", op.conv_transpose(b, flows[0], channels, 2, 2), 2, 2)

    return (image(channels, size),), unit


def _table(rows: int, width: int, entries: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        places = b.constant([(i * 7919 + b.unit) % entries for i in range(rows)])
        taken = b.apply("Gather", [flows[1]], (rows, width), [places], quantizes=False)
        return op.binary(b, "Add", flows[0], taken)

    return ((rows, width), (entries, width)), unit


def _border(channels: int, size: int) -> Plan:
    """Return a float operator between integers: Q and DQ are executed around it."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return b.settled(op.unary(b, "Erf", flows[0]))

    return (image(channels, size),), unit


def _padded(channels: int, size: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        wide = op.pad(b, flows[0], 1)
        return op.cut(b, op.cut(b, wide, 1, size + 1, 2), 1, size + 1, 3)

    return (image(channels, size),), unit


def _packed(rows: int, inputs: int, outputs: int, bits: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.packed_linear(b, flows[0], outputs, bits)
        return made if inputs == outputs else op.packed_linear(b, made, inputs, bits)

    return ((rows, inputs),), unit


def _smooth(channels: int, size: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.pool(b, "AveragePool", op.resize(b, flows[0], 2, "linear"), 2, 2)

    return (image(channels, size),), unit


# -- what stands between products, in float and in integers --------------------------------------


def _between_products(shapes: Shapes, precision: Precision) -> Iterator[Micro]:
    images = shapes.images(32)
    for index, name in enumerate(("Add", "Mul")):
        sums = [_twofold(name, *images[index * 3 + i]) for i in range(3)]
        yield from numbered(name, precision, sums, every=2)
    gates = [_gate(*images[8 + i]) for i in range(3)]
    yield from numbered("gate", precision, gates)
    kinds = ("MaxPool", "AveragePool") * 2
    pools = [_pooled(kind, *images[12 + i]) for i, kind in enumerate(kinds)]
    yield from numbered("pool", precision, pools)
    joins = [_joined(*images[16 + i]) for i in range(3)]
    yield from numbered("concat", precision, joins)
    turns = [_turned(*s) for s in ((64, 56, 56), (256, 14, 14), (197, 3, 64), (128, 12, 64))]
    yield from numbered("transpose", precision, turns)
    heads = [_attention(*s) for s in ((3, 197, 64), (12, 128, 64), (4, 49, 32), (2, 64, 32))]
    yield from numbered("attention", precision, heads, every=2)
    if precision != "float32":
        for name in ("Sigmoid", "LeakyRelu"):
            units = [((image(*images[24 + i]),), _integer_unary(name)) for i in range(2)]
            yield from numbered(name, precision, units)


def _integer_unary(name: str) -> Unit:
    return lambda b, flows: op.unary(b, name, flows[0], quantizes=True)


def _twofold(name: str, channels: int, size: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.binary(b, name, flows[0], flows[0])

    return (image(channels, size),), unit


def _gate(channels: int, size: int) -> Plan:
    """Return the frame of squeeze and excitation: a global pool and the product with it."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.binary(b, "Mul", flows[0], op.global_pool(b, flows[0]))

    return (image(channels, size),), unit


def _pooled(name: str, channels: int, size: int) -> Plan:
    size = size // 2 * 2

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        wide = op.pool(b, name, flows[0], 3, 1)
        return op.resize(b, op.pool(b, name, wide, 2, 2), 2)

    return (image(channels, size),), unit


def _joined(channels: int, size: int) -> Plan:
    channels = max(2, channels // 2 * 2)

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        half = op.cut(b, flows[0], 0, channels // 2)
        return op.concat(b, [half, half])

    return (image(channels, size),), unit


def _turned(length: int, heads: int, width: int) -> Plan:
    """Return the transposition of attention; the Reshapes keep two from cancelling out."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        split = op.reshape(b, flows[0], 1, length, heads, width)
        turned = op.transpose(b, split, 0, 2, 1, 3)
        return op.reshape(b, turned, 1, length, heads * width)

    return ((1, length, heads * width),), unit


def _attention(heads: int, length: int, width: int) -> Plan:
    """Return the products of attention with keys and values from outside."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        weights = op.softmax(b, op.matmul(b, flows[0], flows[1]))
        return op.matmul(b, weights, flows[2])

    left, keys = (1, heads, length, width), (1, heads, width, length)
    return (left, keys, left), unit
