"""The shapes of layers in real networks, drawn at random with a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

# Layers of published networks as (channels in, channels out, size of the image), at width 1 and
# 224 pixels: ResNet, VGG, MobileNetV1 to V3, EfficientNet, MnasNet, SqueezeNet, U-Net, and the
# small ones for CIFAR-10 and MLPerf Tiny. Widths and image sizes are then drawn.
_SPATIAL = (
    (64, 64, 56), (128, 128, 28), (256, 256, 14), (512, 512, 7), (16, 16, 32), (32, 32, 16),
    (64, 64, 8), (64, 128, 56), (128, 256, 28), (256, 512, 14), (16, 64, 56), (48, 192, 28),
    (64, 64, 112), (128, 64, 56), (32, 32, 112), (64, 32, 56), (96, 128, 27), (192, 192, 13),
)  # fmt: skip
_POINTWISE = (
    (32, 16, 112), (16, 96, 112), (96, 24, 56), (24, 144, 56), (144, 32, 28), (32, 192, 28),
    (192, 64, 14), (64, 384, 14), (384, 96, 14), (96, 576, 14), (576, 160, 7), (160, 960, 7),
    (320, 1280, 7), (64, 64, 25), (64, 256, 56), (256, 64, 56), (512, 128, 28), (1024, 256, 14),
    (32, 64, 112), (128, 128, 56), (256, 256, 28), (512, 512, 14), (40, 240, 14), (112, 672, 14),
    (128, 16, 55), (512, 64, 27),
)  # fmt: skip
_DEPTHWISE = (
    (32, 112, 3), (96, 112, 3), (144, 56, 3), (192, 28, 3), (384, 14, 3), (576, 14, 3),
    (960, 7, 3), (72, 56, 5), (120, 28, 5), (240, 28, 5), (672, 14, 5), (960, 7, 5), (64, 25, 3),
    (128, 56, 3), (256, 28, 3), (512, 14, 3), (1024, 7, 3), (480, 14, 3),
)  # fmt: skip
_GROUPED = (
    (128, 56, 32), (256, 28, 32), (512, 14, 32), (240, 28, 3), (480, 14, 3), (64, 56, 2),
    (192, 14, 8), (232, 28, 29),
)  # fmt: skip
_LINEAR = (
    (128, 768, 768), (128, 768, 3072), (197, 192, 192), (197, 192, 768), (50, 384, 384),
    (64, 256, 1024), (128, 64, 256), (256, 128, 128), (49, 96, 288), (196, 192, 576), (16, 64, 64),
    (32, 512, 512),
)  # fmt: skip
"""Rows, inputs and outputs of fully connected layers in transformers."""
_VECTORS = (
    (1, 512, 1000), (1, 1280, 1000), (1, 64, 10), (1, 640, 128), (1, 128, 128), (1, 128, 8),
    (1, 2048, 1000), (1, 960, 240), (1, 3072, 3072), (1, 768, 768), (2, 576, 1024), (4, 256, 256),
)  # fmt: skip
"""The same for one or few rows: classifiers, squeeze and excitation, steps of a decoder."""

_WIDTHS = (0.25, 0.5, 0.5, 0.75, 1.0, 1.0, 1.0, 1.25)
_SIZES = (0.43, 0.5, 0.5, 0.57, 0.71, 0.86, 1.0, 1.0)
_MOST_MACS = 150_000_000
"""Of one drawn operator: larger ones are as efficient, and take time that others need."""
_LARGEST = 1_500_000
"""Elements of one drawn activation."""


@dataclass(frozen=True)
class ConvShape:
    """A convolution over square images.

    Args:
        inputs: channels that it reads.
        outputs: channels that it makes.
        size: width and height of the image that it reads.
        kernel: width and height of its window.
        groups: of channels.
    """

    inputs: int
    outputs: int
    size: int
    kernel: int = 1
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates at stride 1."""
        return self.size**2 * self.outputs * self.inputs // self.groups * self.kernel**2

    @property
    def is_usual(self) -> bool:
        """Whether it is small enough to be measured many times."""
        largest = max(self.inputs, self.outputs) * self.size**2
        return self.macs <= _MOST_MACS and largest <= _LARGEST


class Shapes:
    """A seeded source of shapes: the same numbers on every machine and with every Python."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)  # noqa: S311  (shapes, not secrets)

    def spatial(self, count: int) -> list[ConvShape]:
        """Return convolutions with windows of 3x3, and a few of 5x5 and 7x7."""
        windows = (3, 3, 3, 3, 3, 3, 5, 7)
        return [self._spatial(windows[i % len(windows)], i) for i in range(count)]

    def pointwise(self, count: int) -> list[ConvShape]:
        """Return convolutions with windows of 1x1."""
        return [self._scaled(_POINTWISE, i, 1) for i in range(count)]

    def depthwise(self, count: int) -> list[ConvShape]:
        """Return convolutions of each channel with a window of its own."""
        found = []
        for i in range(count):
            channels, size, kernel = _DEPTHWISE[i % len(_DEPTHWISE)]
            made = self._scaled(((channels, channels, size),), 0, kernel)
            found.append(ConvShape(made.inputs, made.inputs, made.size, kernel, made.inputs))
        return found

    def grouped(self, count: int) -> list[ConvShape]:
        """Return convolutions of a few groups of channels."""
        found = []
        for i in range(count):
            channels, size, groups = _GROUPED[i % len(_GROUPED)]
            size = max(5, round(size * self._draw.choice(_SIZES)))
            found.append(ConvShape(channels, channels, size, 3 if i % 4 else 1, groups))
        return found

    def first(self, count: int) -> list[ConvShape]:
        """Return convolutions of images with one or three channels."""
        found = []
        for i in range(count):
            outputs = self._draw.choice((8, 16, 16, 24, 32, 32, 64))
            size = self._draw.choice((32, 49, 96, 112, 128, 160, 224))
            found.append(ConvShape(1 if i % 3 == 2 else 3, outputs, size, 7 if i % 4 == 3 else 3))
        return found

    def linear(self, count: int) -> list[tuple[int, int, int]]:
        """Return rows, inputs and outputs of fully connected layers on sequences."""
        found = []
        for i in range(count):
            rows, inputs, outputs = _LINEAR[i % len(_LINEAR)]
            rows = max(8, round(rows * self._draw.choice((0.5, 1.0, 1.0, 1.5))))
            found.append((rows, inputs, outputs))
        return found

    def vectors(self, count: int) -> list[tuple[int, int, int]]:
        """Return the same on one row or few."""
        return [_VECTORS[i % len(_VECTORS)] for i in range(count)]

    def images(self, count: int) -> list[tuple[int, int]]:
        """Return channels and sizes of activations between convolutions."""
        pairs = [(shape.outputs, shape.size) for shape in self.pointwise(count)]
        return [(channels, size) for channels, size in pairs]

    def _spatial(self, kernel: int, index: int) -> ConvShape:
        return self._scaled(_SPATIAL, index, kernel)

    def _scaled(
        self, layers: tuple[tuple[int, int, int], ...], index: int, kernel: int
    ) -> ConvShape:
        inputs, outputs, size = layers[index % len(layers)]
        while True:
            width, scale = self._draw.choice(_WIDTHS), self._draw.choice(_SIZES)
            # A layer in sixteen keeps an odd number of channels, as pruned ones do.
            step = 1 if self._draw.random() < 1 / 16 else 8
            made = ConvShape(
                max(step, round(inputs * width / step) * step),
                max(step, round(outputs * width / step) * step),
                max(4, round(size * scale)),
                kernel,
            )
            if made.is_usual or min(width, scale) == min(*_WIDTHS, *_SIZES):
                return made
