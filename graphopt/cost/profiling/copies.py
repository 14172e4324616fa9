"""What only moves data: changes of layout, shuffles of channels, splits, joins, heads, windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.plans import image, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.cost.profiling.builder import Builder, Flow, Precision
    from graphopt.cost.profiling.micro import Micro
    from graphopt.cost.profiling.plans import Plan

_LAYOUTS = (
    (3, 160),
    (4, 112),
    (8, 56),
    (16, 112),
    (24, 56),
    (64, 56),
    (256, 28),
    (512, 7),
    (96, 28),
)
_SHUFFLES = ((116, 28, 2), (232, 14, 2), (272, 14, 4), (112, 56, 4), (48, 28, 3))
_SHUFFLES_LAST = ((28, 116, 2), (14, 232, 2), (28, 136, 4), (48, 112, 4), (7, 488, 2))
_PARTS = ((116, 28), (232, 14), (48, 28), (64, 56))
_TURNS = ((784, 58), (196, 136), (96, 64))
_THIRDS = ((196, 384), (49, 768), (1024, 96))
_WINDOWS = ((8, 7, 96), (4, 7, 192), (2, 7, 384))
_FIRES = ((128, 16, 64, 55), (256, 32, 128, 27), (96, 48, 192, 13))


def copies(precision: Precision) -> Iterator[Micro]:
    """Yield the models in one precision."""
    yield from numbered("layout", precision, [_layout(*s) for s in _LAYOUTS])
    yield from numbered("shuffle", precision, [_shuffle(*s) for s in _SHUFFLES])
    yield from numbered("shuffle-last", precision, [_shuffle_last(*s) for s in _SHUFFLES_LAST])
    yield from numbered("turn", precision, [_turn(*s) for s in _TURNS])
    yield from numbered("split", precision, [_halves(*s) for s in _PARTS])
    yield from numbered("thirds", precision, [_thirds(*s) for s in _THIRDS])
    yield from numbered("windows", precision, [_windows(*s) for s in _WINDOWS])
    yield from numbered("fire", precision, [_fire(*s) for s in _FIRES])


def _layout(channels: int, size: int) -> Plan:
    """Return the transposition that puts channels last; a Reshape keeps two from cancelling out."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.reshape(b, op.transpose(b, flows[0], 0, 2, 3, 1), *image(channels, size))

    return (image(channels, size),), unit


def _shuffle(channels: int, size: int, groups: int) -> Plan:
    """Return the exchange of channels between groups (ShuffleNet), channels before places."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        split = op.reshape(b, flows[0], 1, groups, channels // groups, size, size)
        return op.reshape(b, op.transpose(b, split, 0, 2, 1, 3, 4), *image(channels, size))

    return (image(channels, size),), unit


def _shuffle_last(size: int, channels: int, groups: int) -> Plan:
    """Return the same from channels behind places, as integers have them: single elements move."""
    sizes = (1, size, size, channels)

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        split = op.reshape(b, flows[0], 1, size, size, groups, channels // groups)
        return op.reshape(b, op.transpose(b, split, 0, 4, 3, 1, 2), *sizes)

    return (sizes,), unit


def _turn(rows: int, columns: int) -> Plan:
    """Return the transposition of several matrices."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.reshape(b, op.transpose(b, flows[0], 0, 2, 1), 4, rows, columns)

    return ((4, rows, columns),), unit


def _halves(channels: int, size: int) -> Plan:
    """Return a Split of channels, and a Concat of the halves in the other order."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        first, second = op.split(b, flows[0], 2, 1)
        return op.concat(b, [second, first])

    return (image(channels, size),), unit


def _thirds(rows: int, width: int) -> Plan:
    """Return a Split of the last axis, as of queries, keys and values, and a Concat."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        first, second, third = op.split(b, flows[0], 3, 2)
        return op.concat(b, [third, first, second], 2)

    return ((1, rows, 3 * width),), unit


def _windows(count: int, size: int, width: int) -> Plan:
    """Return the partition of an image into windows (Swin)."""
    side = count * size

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        split = op.reshape(b, flows[0], count, size, count, size, width)
        turned = op.transpose(b, split, 0, 2, 1, 3, 4)
        return op.reshape(b, turned, 1, side, side, width)

    return ((1, side, side, width),), unit


def _fire(channels: int, few: int, each: int, size: int) -> Plan:
    """Return a squeezing convolution and the join of two that widen again (SqueezeNet)."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        squeezed = op.conv(b, flows[0], few, activation="Relu")
        wide = [op.conv(b, squeezed, each, k, activation="Relu") for k in (1, 3)]
        return op.concat(b, wide)

    return (image(channels, size),), unit
