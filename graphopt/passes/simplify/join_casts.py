"""Convert once instead of twice where the type between holds every value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.bypass import bypass, drop_unread
from graphopt.passes.simplify.joining import join_chains
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context, PassResult

_BITS: dict[DType, tuple[int, int, bool]] = {
    DType.BOOL: (0, 1, False),
    DType.UINT8: (0, 8, False), DType.UINT16: (0, 16, False),
    DType.UINT32: (0, 32, False), DType.UINT64: (0, 64, False),
    DType.INT8: (1, 7, False), DType.INT16: (1, 15, False),
    DType.INT32: (1, 31, False), DType.INT64: (1, 63, False),
    DType.FLOAT16: (5, 11, True), DType.FLOAT: (8, 24, True), DType.DOUBLE: (11, 53, True),
}  # fmt: skip
"""A sign or the bits of the exponent, the bits of exact integers, whether it is floating-point."""


@dataclass(frozen=True)
class JoinCasts:
    """Cast from the first type to the last directly, if the type between holds every value.

    int32 to int64 to float is int32 to float; float to double to float is nothing. What rounds or
    wraps on the way, such as float to int32 to float, stays.
    """

    name: ClassVar[str] = "join-casts"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Look through the Cast before each Cast, in order, so that long chains collapse."""
        return join_chains(graph, "Cast", _join)


def _join(graph: Graph, node: Node) -> bool:
    before = made_by(node.inputs[0], "Cast")
    source = before.inputs[0] if before is not None else None
    between = node.inputs[0]
    if before is None or source is None or between is None:
        return False
    if not holds(between.dtype, source.dtype):
        return False
    if source.dtype == node.attribute("to"):
        bypass(graph, node, source)
    else:
        node.set_input(0, source)
    drop_unread(graph, before)
    return True


def holds(wide: DType | None, narrow: DType | None) -> bool:
    """Whether every value of one type is a value of the other, so that a Cast loses nothing."""
    if wide is None or narrow is None or wide not in _BITS or narrow not in _BITS:
        return False
    (top, bits, floating), (other_top, other_bits, other_floating) = _BITS[wide], _BITS[narrow]
    if wide == narrow:
        return True
    if other_floating:
        return floating and top >= other_top and bits >= other_bits
    if floating:
        return bits >= other_bits and 1 << (top - 1) > other_bits
    return top >= other_top and bits >= other_bits
