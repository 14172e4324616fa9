"""Networks of several milliseconds: what caches no longer hold when an inference needs it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op

if TYPE_CHECKING:
    from graphopt.cost.profiling.builder import Builder, Flow

_CLASSES = 1000


def _classified(b: Builder, x: Flow) -> Flow:
    b.next_unit()
    pooled = op.reshape(b, op.global_pool(b, x), 1, x.shape[1])
    return op.linear(b, pooled, _CLASSES)


def bottleneck(b: Builder) -> Flow:
    """Add residual blocks that narrow and widen again (He et al. 2015), and 1000 classes."""
    x = op.conv(b, b.input(1, 3, 128, 128), 64, 7, 2, activation="Relu")
    x = op.pool(b, "MaxPool", x, 3, 2)
    for few, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)):
        b.next_unit()
        wide = few * 4
        same = stride == 1 and x.shape[1] == wide
        short = x if same else op.conv(b, x, wide, 1, stride)
        y = op.conv(b, x, few, activation="Relu")
        y = op.conv(b, op.conv(b, y, few, 3, stride, activation="Relu"), wide)
        x = op.unary(b, "Relu", op.binary(b, "Add", y, short), quantizes=True)
    return _classified(b, x)


def inverted(b: Builder) -> Flow:
    """Add inverted residual blocks of usual width (Sandler et al. 2018), and 1000 classes."""
    x = op.conv(b, b.input(1, 3, 192, 192), 32, 3, 2, activation="Clip")
    plan = ((16, 1, 1), (24, 6, 2), (24, 6, 1), (32, 6, 2), (32, 6, 1), (64, 6, 2), (64, 6, 1),
            (96, 6, 1), (160, 6, 2), (160, 6, 1), (320, 6, 1))  # fmt: skip
    for out, times, stride in plan:
        b.next_unit()
        wide = x.shape[1] * times
        y = op.conv(b, x, wide, activation="Clip") if times > 1 else x
        y = op.conv(b, op.conv(b, y, wide, 3, stride, wide, "Clip"), out)
        x = op.binary(b, "Add", y, x) if stride == 1 and out == x.shape[1] else y
    b.next_unit()
    return _classified(b, op.conv(b, x, 1280, activation="Clip"))


def encoder(b: Builder) -> Flow:
    """Add layers of attention over patches (Dosovitskiy et al. 2020), and 1000 classes."""
    width, heads, length = 512, 8, 100
    x = b.input(1, length, width)
    for _ in range(3):
        b.next_unit()
        x = op.binary(b, "Add", x, _attention(b, op.layer_norm(b, x), width, heads))
        b.next_unit()
        y = op.gelu(b, op.linear(b, op.layer_norm(b, x), 4 * width))
        x = op.binary(b, "Add", op.linear(b, y, width), x)
    b.next_unit()
    first = op.reshape(b, op.cut(b, op.layer_norm(b, x), 0, 1), 1, width)
    return op.linear(b, first, _CLASSES)


def _attention(b: Builder, x: Flow, width: int, heads: int) -> Flow:
    """Add attention with queries, keys and values from one product."""
    return op.spelled_attention(b, op.split(b, op.linear(b, x, 3 * width), 3, 2), heads)


def grouped(b: Builder) -> Flow:
    """Add residual blocks with grouped windows and gates (Radosavovic et al. 2020)."""
    x = op.conv(b, b.input(1, 3, 128, 128), 32, 3, 2, activation="Relu")
    for out, stride in ((48, 2), (96, 2), (96, 1), (192, 2), (192, 1), (192, 1), (384, 2)):
        b.next_unit()
        same = stride == 1 and x.shape[1] == out
        short = x if same else op.conv(b, x, out, 1, stride)
        y = op.conv(b, x, out, activation="Relu")
        y = op.conv(b, y, out, 3, stride, out // 8, "Relu")
        gate = op.conv(b, op.global_pool(b, y), max(8, out // 4), activation="Relu")
        gate = op.unary(b, "Sigmoid", op.conv(b, gate, out), quantizes=True)
        y = op.conv(b, op.binary(b, "Mul", y, gate), out)
        x = op.unary(b, "Relu", op.binary(b, "Add", y, short), quantizes=True)
    return _classified(b, x)
