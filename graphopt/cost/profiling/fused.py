"""Operators that stand for several others: normalizations, attention, rotary positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.profiling import operators as op
from graphopt.cost.profiling.plans import image, numbered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.cost.profiling.builder import Builder, Flow
    from graphopt.cost.profiling.micro import Micro
    from graphopt.cost.profiling.plans import Plan

_IMAGES = ((64, 56), (192, 28), (256, 14))
_HEADS = ((8, 64, 8), (12, 128, 64), (4, 49, 32), (6, 196, 64))
_ROWS = ((64, 64), (128, 768))


def fused_models() -> Iterator[Micro]:
    """Yield the models; they need operator set 23 or less, and a runtime without it skips them."""
    yield from numbered("LRN", "float32", [_normalized(*s, "LRN") for s in _IMAGES])
    batches = [_normalized(*s, "BatchNormalization") for s in _IMAGES]
    yield from numbered("BatchNormalization", "float32", batches)
    yield from numbered("Attention", "float32", [_attention(*s) for s in _HEADS])
    yield from numbered("RotaryEmbedding", "float32", [_rotary(*s) for s in _HEADS[:2]])
    yield from numbered("RMSNormalization", "float32", [_scaled(*s) for s in _ROWS])
    yield from numbered("Gelu", "float32", [_gelu(*s) for s in ((50, 768), (784, 384))])


def _normalized(channels: int, size: int, name: str) -> Plan:
    make = op.local_norm if name == "LRN" else op.batch_norm
    return (image(channels, size),), lambda b, flows: make(b, flows[0])


def _attention(heads: int, length: int, width: int) -> Plan:
    shape = (1, heads, length, width)
    return (shape, shape, shape), lambda b, flows: op.attention(b, *flows)


def _rotary(heads: int, length: int, width: int) -> Plan:
    return ((1, heads, length, width),), lambda b, flows: op.rotary(b, flows[0])


def _scaled(rows: int, width: int) -> Plan:
    return ((1, rows, width),), lambda b, flows: op.rms_norm(b, flows[0])


def _gelu(rows: int, width: int) -> Plan:
    def unit(b: Builder, flows: list[Flow]) -> Flow:
        return op.gelu(b, flows[0])

    return ((1, rows, width),), unit
