"""Operators behind a convolution, in the layout that it leaves, and with operands of fewer axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.plans import image, numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from graphopt.cost.profiling.builder import Builder, Flow, Precision
    from graphopt.cost.profiling.micro import Micro
    from graphopt.cost.profiling.plans import Plan

_SWISHES = ((96, 56), (240, 28), (672, 14))
_POOLS = ((64, 56), (128, 28))
_PLACES = ((64, 25, 5), (64, 7, 7))
_CHANNELS = ((8, 28), (64, 28), (240, 14))
_LAST = ((784, 16), (196, 384), (50, 768))


def models_behind(precision: Precision) -> Iterator[Micro]:
    """Yield the models in one precision."""
    swishes = [_behind(c, n, op.swish) for c, n in _SWISHES]
    yield from numbered("swish-behind", precision, swishes)
    pools = [_behind(c, n, _pool(kind)) for kind in ("MaxPool", "AveragePool") for c, n in _POOLS]
    yield from numbered("pool-behind", precision, pools)
    yield from numbered("mean-behind", precision, [_mean_behind(*s) for s in _PLACES])
    for name in ("Add", "Mul"):
        firsts = [_channelwise(name, c, n) for c, n in _CHANNELS]
        yield from numbered(f"channels-{name}", precision, firsts)
        lasts = [_last(name, *s) for s in _LAST]
        yield from numbered(f"last-{name}", precision, lasts)


def _behind(channels: int, size: int, following: Callable[[Builder, Flow], Flow]) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return following(b, op.conv(b, flows[0], channels))

    return (image(channels, size),), unit


def _pool(kind: str) -> Callable[[Builder, Flow], Flow]:
    return lambda b, x: op.pool(b, kind, x, 3, 1)


def _mean_behind(channels: int, height: int, width: int) -> Plan:
    """Return a convolution, the mean of its image by a window, and the product with it."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.conv(b, flows[0], channels)
        return op.binary(b, "Mul", made, op.window_mean(b, made))

    return ((1, channels, height, width),), unit


def _channelwise(name: str, channels: int, size: int) -> Plan:
    """Return an operator with one constant for each channel, behind a convolution."""

    def unit(b: Builder, flows: list[Flow]) -> Flow:
        made = op.conv(b, flows[0], channels)
        return op.with_vector(b, name, op.unary(b, "Sigmoid", made, quantizes=True), 1)

    return (image(channels, size),), unit


def _last(name: str, rows: int, width: int) -> Plan:
    """Return an operator with a constant along the last axis."""
    return ((1, rows, width),), lambda b, flows: op.with_vector(b, name, flows[0], 2)
