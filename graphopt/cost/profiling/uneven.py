"""Convolutions that blocks of channels do not divide: odd widths, narrow groups, few channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling.plans import numbered, strided, there_and_back
from graphopt.cost.profiling.shapes import ConvShape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.cost.profiling.builder import Precision
    from graphopt.cost.profiling.micro import Micro

_DEPTHWISE = (
    (58, 28, 3), (122, 28, 3), (116, 14, 3), (24, 56, 3), (72, 28, 5), (8, 56, 3), (20, 40, 3),
    (120, 14, 5), (40, 14, 7), (16, 112, 3), (48, 28, 5),
)  # fmt: skip
"""Channels, size and window: what is left over of a block is computed one by one."""

_DEPTHWISE_HALVED = ((58, 56, 3), (120, 28, 5), (24, 112, 3))

_POINTWISE = (
    (58, 58, 28), (122, 122, 28), (24, 58, 56), (8, 16, 112), (116, 116, 14), (12, 36, 28),
    (232, 232, 7),
)  # fmt: skip
_SPATIAL = ((20, 20, 28, 3), (50, 50, 14, 3), (8, 8, 28, 5), (8, 16, 14, 5), (12, 24, 32, 3))

_GROUPED = (
    (48, 48, 56, 3, 6), (104, 104, 28, 3, 13), (208, 208, 14, 3, 26), (440, 440, 7, 3, 55),
    (144, 144, 28, 3, 9), (320, 320, 14, 3, 20), (256, 256, 28, 3, 2), (272, 272, 14, 1, 4),
    (136, 136, 28, 1, 4), (544, 544, 7, 1, 4), (112, 112, 28, 1, 4), (24, 112, 56, 1, 4),
    (240, 240, 28, 1, 3), (384, 384, 14, 1, 8),
)  # fmt: skip
_GROUPED_HALVED = ((104, 104, 56, 3, 13), (192, 192, 28, 3, 12))


def uneven_models(precision: Precision) -> Iterator[Micro]:
    """Yield the models in one precision."""
    alone = [ConvShape(c, c, n, k, c) for c, n, k in _DEPTHWISE]
    yield from numbered("odd-depthwise", precision, [there_and_back(s) for s in alone])
    halved = [ConvShape(c, c, n, k, c) for c, n, k in _DEPTHWISE_HALVED]
    yield from numbered("odd-strided", precision, [strided(s) for s in halved])
    points = [ConvShape(i, o, n) for i, o, n in _POINTWISE]
    yield from numbered("odd-pointwise", precision, [there_and_back(s) for s in points])
    windows = [ConvShape(*s) for s in _SPATIAL]
    yield from numbered("odd-conv", precision, [there_and_back(s) for s in windows])
    groups = [ConvShape(*s) for s in _GROUPED]
    yield from numbered("odd-grouped", precision, [there_and_back(s) for s in groups])
    shrunk = [ConvShape(*s) for s in _GROUPED_HALVED]
    yield from numbered("grouped-strided", precision, [strided(s) for s in shrunk])
