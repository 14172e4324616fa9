"""Whole networks with random weights, small ones of eight families: what kernels add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.profiling import large_nets
from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.builder import Builder, Flow, Precision

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Net:
    """A whole network in one precision.

    Args:
        family: architecture.
        precision: that it is built in.
    """

    family: str
    precision: Precision

    @property
    def name(self) -> str:
        """The family with the precision."""
        return f"{self.family}/{self.precision}"

    def build(self) -> Builder:
        """Return the finished network."""
        b = Builder(self.name, self.precision)
        b.next_unit()
        made = FAMILIES[self.family](b)
        b.next_unit()
        b.finish(made)
        return b


def nets() -> list[Net]:
    """Return every family in float and in the integers of x86 and of Arm."""
    kinds: tuple[Precision, ...] = ("float32", "u8s8", "s8s8")
    return [
        Net(family, kind)
        for family in FAMILIES
        for kind in kinds
        if kind == "float32" or family not in _ONLY_FLOAT
    ]


_ONLY_FLOAT = frozenset({"lstm"})


def anchor() -> Builder:
    """Return the network that is timed again and again to see whether the clock drifts.

    It is a short one: among thousands of runs some are undisturbed, so that its shortest time tells
    of the clock, not of what else the machine does.
    """
    return Net("ds-cnn", "float32").build()


def _head(b: Builder, x: Flow, classes: int) -> Flow:
    b.next_unit()
    pooled = op.reshape(b, op.global_pool(b, x), 1, x.shape[1])
    return op.linear(b, pooled, classes)


def _resnet(b: Builder) -> Flow:
    """Add residual blocks of two convolutions (He et al. 2015), for 64 x 64 images."""
    x = op.conv(b, b.input(1, 3, 64, 64), 32, 3, 1, activation="Relu")
    for channels, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        b.next_unit()
        same = stride == 1 and x.shape[1] == channels
        short = x if same else op.conv(b, x, channels, 1, stride)
        y = op.conv(b, x, channels, 3, stride, activation="Relu")
        y = op.conv(b, y, channels, 3)
        x = op.unary(b, "Relu", op.binary(b, "Add", y, short), quantizes=True)
    return _head(b, x, 100)


def _inverted(b: Builder, x: Flow, wide: int, out: int, kernel: int, stride: int) -> Flow:
    """Add an inverted residual block with Relu6 (MobileNetV2)."""
    b.next_unit()
    y = op.conv(b, x, wide, activation="Clip") if wide != x.shape[1] else x
    y = op.conv(b, y, wide, kernel, stride, wide, "Clip")
    y = op.conv(b, y, out)
    return op.binary(b, "Add", y, x) if stride == 1 and out == x.shape[1] else y


def _mobilenet_v2(b: Builder) -> Flow:
    x = op.conv(b, b.input(1, 3, 96, 96), 16, 3, 2, activation="Clip")
    x = _inverted(b, x, 16, 8, 3, 1)
    for out, stride in ((16, 2), (16, 1), (24, 2), (24, 1), (48, 2), (48, 1), (56, 1), (80, 2)):
        x = _inverted(b, x, x.shape[1] * 6, out, 3, stride)
    b.next_unit()
    return _head(b, op.conv(b, x, 640, activation="Clip"), 100)


def _squeezed(b: Builder, x: Flow, kernel: int, stride: int, out: int) -> Flow:
    """Add an inverted residual block with HardSwish, squeeze and excitation (MobileNetV3)."""
    b.next_unit()
    wide = x.shape[1] * 4
    y = op.hard_swish(b, op.conv(b, x, wide), fused=False)
    y = op.hard_swish(b, op.conv(b, y, wide, kernel, stride, wide), fused=False)
    gate = op.conv(b, op.global_pool(b, y), max(8, wide // 4 // 8 * 8), activation="Relu")
    gate = op.unary(b, "HardSigmoid", op.conv(b, gate, wide), alpha=1 / 6)
    y = op.conv(b, op.binary(b, "Mul", y, gate), out)
    return op.binary(b, "Add", y, x) if stride == 1 and out == x.shape[1] else y


def _mobilenet_v3(b: Builder) -> Flow:
    x = op.hard_swish(b, op.conv(b, b.input(1, 3, 112, 112), 16, 3, 2), fused=False)
    for kernel, stride, out in ((3, 2, 16), (3, 2, 24), (5, 1, 24), (5, 2, 40), (5, 1, 40)):
        x = _squeezed(b, x, kernel, stride, out)
    b.next_unit()
    return _head(b, op.hard_swish(b, op.conv(b, x, 240), fused=False), 100)


def _dscnn(b: Builder) -> Flow:
    """Add depthwise separable convolutions over a spectrogram (Zhang et al. 2017)."""
    x = op.conv(b, b.input(1, 1, 49, 10), 64, (9, 5), 2, activation="Relu")
    for _ in range(4):
        b.next_unit()
        x = op.conv(b, x, 64, 3, 1, 64, "Relu")
        x = op.conv(b, x, 64, activation="Relu")
    return _head(b, x, 12)


def _dense(b: Builder) -> Flow:
    """Add blocks whose layers are concatenated (DenseNet), with transitions that pool."""
    x = op.conv(b, b.input(1, 3, 64, 64), 32, 3, 2, activation="Relu")
    for _ in range(3):
        for _ in range(3):
            b.next_unit()
            y = op.conv(b, x, 64, activation="Relu")
            x = op.concat(b, [x, op.conv(b, y, 16, 3, activation="Relu")])
        x = op.pool(b, "AveragePool", op.conv(b, x, x.shape[1] // 2, activation="Relu"), 2, 2)
    return _head(b, x, 100)


def _shuffle(b: Builder) -> Flow:
    """Add units that split, convolve one half and shuffle the channels (ShuffleNetV2)."""
    x = op.conv(b, b.input(1, 3, 96, 96), 24, 3, 2, activation="Relu")
    x = op.conv(b, op.pool(b, "MaxPool", x, 3, 2), 64, activation="Relu")
    for index in range(6):
        b.next_unit()
        half, size = x.shape[1] // 2, x.shape[2]
        left, right = op.cut(b, x, 0, half), op.cut(b, x, half, 2 * half)
        right = op.conv(b, right, half, activation="Relu")
        right = op.conv(b, op.conv(b, right, half, 3, 1, half), half, activation="Relu")
        y = op.reshape(b, op.concat(b, [left, right]), 1, 2, half, size, size)
        x = op.reshape(b, op.transpose(b, y, 0, 2, 1, 3, 4), 1, 2 * half, size, size)
        if index == 2:
            x = op.conv(b, op.pool(b, "MaxPool", x, 2, 2), 128, activation="Relu")
    return _head(b, x, 100)


def _transformer(b: Builder) -> Flow:
    """Add layers of attention and two linear maps with Gelu (Vaswani et al. 2017)."""
    width, heads, length = 192, 3, 64
    x = b.input(1, length, width)
    for _ in range(3):
        b.next_unit()
        x = op.binary(b, "Add", x, _attention(b, op.layer_norm(b, x), width, heads))
        b.next_unit()
        y = op.gelu(b, op.linear(b, op.layer_norm(b, x), 4 * width))
        x = op.binary(b, "Add", op.linear(b, y, width), x)
    b.next_unit()
    return op.linear(b, op.layer_norm(b, x), 64)


def _attention(b: Builder, x: Flow, width: int, heads: int) -> Flow:
    return op.spelled_attention(b, [op.linear(b, x, width) for _ in range(3)], heads)


def _unet(b: Builder) -> Flow:
    """Add a path down and a path up with links between them (Ronneberger et al. 2015)."""
    x = op.conv(b, b.input(1, 3, 64, 64), 16, 3, activation="Relu")
    links = []
    for channels in (32, 64):
        b.next_unit()
        links.append(x)
        x = op.conv(b, op.pool(b, "MaxPool", x, 2, 2), channels, 3, activation="Relu")
    for channels in (32, 16):
        b.next_unit()
        x = op.conv_transpose(b, x, channels, 2, 2)
        x = op.conv(b, op.concat(b, [x, links.pop()]), channels, 3, activation="Relu")
    b.next_unit()
    return op.unary(b, "Sigmoid", op.conv(b, x, 1), quantizes=True)


def _lstm(b: Builder) -> Flow:
    """Add two LSTM layers and a mask, as networks that clean speech have."""
    x = b.input(8, 1, 128)
    skip = x
    for _ in range(2):
        b.next_unit()
        x = op.recurrent(b, "LSTM", x, 128)
    b.next_unit()
    mask = op.unary(b, "Sigmoid", op.linear(b, x, 128))
    return op.binary(b, "Mul", skip, mask)


FAMILIES: dict[str, Callable[[Builder], Flow]] = {
    "resnet": _resnet,
    "mobilenet-v2": _mobilenet_v2,
    "mobilenet-v3": _mobilenet_v3,
    "ds-cnn": _dscnn,
    "densenet": _dense,
    "shufflenet": _shuffle,
    "transformer": _transformer,
    "unet": _unet,
    "lstm": _lstm,
    "bottleneck": large_nets.bottleneck,
    "inverted": large_nets.inverted,
    "encoder": large_nets.encoder,
    "grouped": large_nets.grouped,
}
