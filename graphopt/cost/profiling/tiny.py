"""Kernels so small that starting them is most of their time, and products of a few rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.plans import FAVOURED, numbered, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.cost.profiling.builder import Builder, Flow, Precision
    from graphopt.cost.profiling.micro import Micro
    from graphopt.cost.profiling.plans import Plan

_UNARY = ("Sigmoid", "Tanh", "Relu", "Erf")
_BINARY = ("Add", "Mul", "Sub")
_SIZES = (128, 512)
_SOFTMAX = ((1, 12), (1, 1000), (4420, 2), (512, 64), (64, 512))
_NORMS = ((64, 64), (1, 512))
_MATRICES = ((64, 64, 64), (64, 64, 172), (64, 64, 32), (16, 128, 512), (49, 320, 128))
_HEADS = ((8, 64, 8), (4, 32, 16))
_VECTORS = ((128, 12), (128, 512), (256, 512), (384, 128))
_WINDOWS = ((64, 25, 5), (16, 7, 5), (32, 8, 8))


def tiny_models() -> Iterator[Micro]:
    """Yield the models of all precisions."""
    yield from _elements()
    yield from _moves()
    yield from _integers("float32")
    for precision, machines in FAVOURED.items():
        yield from only(_integers(precision), machines)
        yield from only(_to_float(precision), machines)


def _elements() -> Iterator[Micro]:
    """Yield operators without weights."""
    for name in _UNARY:
        yield from numbered(f"tiny-{name}", "float32", [_unary(name, n) for n in _SIZES])
    for name in _BINARY:
        yield from numbered(f"tiny-{name}", "float32", [_binary(name, n) for n in _SIZES])
    yield from numbered("tiny-Softmax", "float32", [_softmax(*s) for s in _SOFTMAX])
    yield from numbered("tiny-norm", "float32", [_norm(*s) for s in _NORMS])
    yield from numbered("tiny-quantize", "u8s8", [_border(n) for n in (128, 512, 4096)])


def _moves() -> Iterator[Micro]:
    """Yield operators that only move a few values, or none."""
    yield from numbered("tiny-reshape", "float32", [_reshaped(128), _squeezed(128)])
    yield from numbered("tiny-transpose", "float32", [_turned(4, 128), _turned(64, 8)])
    yield from numbered("tiny-split", "float32", [_quarters(512), _quarters(2048)])
    yield from numbered("tiny-slice", "float32", [_sliced(128), _sliced(2048)])


def _integers(precision: Precision) -> Iterator[Micro]:
    """Yield products and poolings of a few rows."""
    yield from numbered("matrix", precision, [_matrix(*s) for s in _MATRICES], every=3)
    yield from numbered("heads", precision, [_heads(*s) for s in _HEADS])
    yield from numbered("tiny-vector", precision, [_vector(*s) for s in _VECTORS])
    yield from numbered("window-pool", precision, [_pooled(*s) for s in _WINDOWS])


def _to_float(precision: Precision) -> Iterator[Micro]:
    """Yield integer products whose results stay float, as before a normalization."""
    sizes = ((64, 64, 172), (64, 64, 64), (50, 384, 384), (196, 192, 576), (196, 768, 192))
    yield from numbered("to-float", precision, [_float_out(*s) for s in sizes], every=3)


def _unary(name: str, size: int) -> Plan:
    return ((1, size),), lambda b, flows: op.unary(b, name, flows[0])


def _binary(name: str, size: int) -> Plan:
    return ((1, size), (1, size)), lambda b, flows: op.binary(b, name, flows[0], flows[1])


def _softmax(rows: int, width: int) -> Plan:
    return ((1, rows, width),), lambda b, flows: op.softmax(b, flows[0])


def _norm(rows: int, width: int) -> Plan:
    return ((1, rows, width),), lambda b, flows: op.layer_norm(b, flows[0])


def _border(size: int) -> Plan:
    return ((1, size),), lambda b, flows: b.settled(op.unary(b, "Erf", flows[0]))


def _reshaped(size: int) -> Plan:
    """Return a change of shape between two operators that keep it."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        tall = op.unary(b, "Relu", op.reshape(b, flows[0], size, 1))
        return op.unary(b, "Relu", op.reshape(b, tall, 1, size))

    return ((1, size),), unit


def _squeezed(size: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        wide = b.apply("Unsqueeze", [flows[0]], (1, 1, size), [b.constant([0])], quantizes=False)
        wide = op.unary(b, "Relu", wide)
        flat = b.apply("Squeeze", [wide], (1, size), [b.constant([0])], quantizes=False)
        return op.unary(b, "Relu", flat)

    return ((1, size),), unit


def _turned(rows: int, columns: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.reshape(b, op.transpose(b, flows[0], 0, 2, 1), 1, rows, columns)

    return ((1, rows, columns),), unit


def _quarters(size: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        parts = op.split(b, flows[0], 4, 1)
        return op.concat(b, [parts[i] for i in (2, 0, 3, 1)])

    return ((1, size),), unit


def _sliced(size: int) -> Plan:
    """Return a Slice, and a Concat that makes the tensor as long again."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.concat(
            b, [op.cut(b, flows[0], size // 2, size), op.cut(b, flows[0], 0, size // 2)]
        )

    return ((1, size),), unit


def _matrix(rows: int, inputs: int, outputs: int) -> Plan:
    """Return products with weights and without a bias."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.times(b, flows[0], outputs)
        return made if inputs == outputs else op.times(b, made, inputs)

    return ((1, rows, inputs),), unit


def _heads(heads: int, length: int, width: int) -> Plan:
    """Return the products of attention."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.matmul(b, op.matmul(b, flows[0], flows[1]), flows[2])

    left, keys = (1, heads, length, width), (1, heads, width, length)
    return (left, keys, left), unit


def _vector(inputs: int, outputs: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.linear(b, op.linear(b, flows[0], outputs), inputs)

    return ((1, inputs),), unit


def _pooled(channels: int, width: int, height: int) -> Plan:
    """Return the mean over whole images by a window, and the product with it."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.binary(b, "Mul", flows[0], op.window_mean(b, flows[0]))

    return ((1, channels, width, height),), unit


def _float_out(rows: int, inputs: int, outputs: int) -> Plan:
    """Return integer products with results in float, which are quantized for the next."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.real_times(b, flows[0], outputs)
        return made if inputs == outputs else op.real_times(b, made, inputs)

    return ((1, rows, inputs),), unit
