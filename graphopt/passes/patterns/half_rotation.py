"""Rotations of the first half of each head's features with the second, as current models have.

y = x * cos + concat(-x[d/2:], x[:d/2]) * sin, where both halves of cos and of sin are equal: pair i
is (x[i], x[i + d/2]). Where only the first r features of a head are rotated, the rest follows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis import only_consumer
from graphopt.passes.patterns.matching import made_by, sole_reader
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims, Symbols
    from graphopt.ir import Node, Value
    from graphopt.passes.patterns.rotation_tables import HalvedTables


@dataclass(frozen=True)
class HalfRotation:
    """One rotation.

    Args:
        x: [B, h, T, d], or [B, T, h, d].
        shape: of ``x``.
        heads_axis: 1 or 2.
        cos: table that is one wide where the heads are.
        sin: the same.
        width: how many features of a head are rotated.
        result: what the rotation makes, with the features that are not rotated.
    """

    x: Value
    shape: Dims
    heads_axis: int
    cos: Value
    sin: Value
    width: int
    result: Value


def read_half_rotation(node: Node, symbols: Symbols, tables: HalvedTables) -> HalfRotation | None:
    """Return the rotation that this Add completes."""
    if node.domain or len(node.inputs) != 2:
        return None
    for one, other in (node.inputs, node.inputs[::-1]):
        straight, turned = made_by(one, "Mul"), made_by(other, "Mul")
        if straight is None or turned is None:
            continue
        for half, sin in _both_ways(turned):
            x = _turned_halves(half, symbols)
            cos = _other(straight, x) if x is not None else None
            if x is not None and cos is not None:
                return _checked(node, x, (cos, sin), symbols, tables)
    return None


def _checked(
    node: Node, x: Value, both: tuple[Value, Value], symbols: Symbols, tables: HalvedTables
) -> HalfRotation | None:
    shape = symbols.shape(x)
    if shape is None or len(shape) != 4 or x.dtype is not DType.FLOAT or 0 in shape:
        return None
    if symbols.shape(node.outputs[0]) != shape or not isinstance(shape[3], int):
        return None
    axes = [a for a in (1, 2) if all(_is_table(symbols.shape(t), shape, a) for t in both)]
    if not axes or not all(tables.repeats(t) for t in both):
        return None
    axis = axes[0]
    if not isinstance(shape[axis], int):
        return None
    whole = _with_rest(node, x, shape[3], symbols)
    if whole is None:
        return HalfRotation(x, shape, axis, *both, shape[3], node.outputs[0])
    return HalfRotation(whole[0], whole[1], axis, *both, shape[3], whole[2])


def _is_table(table: Dims | None, shape: Dims, heads_axis: int) -> bool:
    """Whether a table has a row of d numbers for each position, the same for all heads."""
    if table is None or not 2 <= len(table) <= 4:
        return False
    padded = (*(1,) * (4 - len(table)), *table)
    wanted = (padded[0], *(1 if a == heads_axis else shape[a] for a in (1, 2)), shape[3])
    if len(table) < 4 and heads_axis != 1:
        return False
    return padded == wanted and padded[0] in {1, shape[0]}


def _with_rest(
    node: Node, x: Value, width: int, symbols: Symbols
) -> tuple[Value, Dims, Value] | None:
    """Return (x, its shape, result) where ``node`` rotates the first features of a longer x."""
    joined = sole_reader(node.outputs[0], node, "Concat")
    cut = _cut(x, symbols)
    if joined is None or cut is None or len(joined.inputs) != 2:
        return None
    source, start, stop = cut
    shape = symbols.shape(source)
    rest = _cut(joined.inputs[1], symbols)
    if shape is None or rest is None or joined.inputs[0] is not node.outputs[0]:
        return None
    if joined.attribute("axis") not in {-1, 3} or not isinstance(shape[3], int):
        return None
    whole = (start, stop) == (0, width) and rest == (source, width, shape[3])
    return (source, shape, joined.outputs[0]) if whole else None


def _both_ways(node: Node) -> list[tuple[Value, Value]]:
    first, second = node.inputs
    return [] if first is None or second is None else [(first, second), (second, first)]


def _other(node: Node, value: Value) -> Value | None:
    """Return what ``value`` is multiplied by."""
    first, second = node.inputs
    if value not in node.inputs or first is second:
        return None
    return second if first is value else first


def _turned_halves(value: Value, symbols: Symbols) -> Value | None:
    """Return x of concat(-x[d/2:], x[:d/2])."""
    node = made_by(value, "Concat")
    shape = symbols.shape(value)
    if node is None or shape is None or len(node.inputs) != 2 or only_consumer(value) is None:
        return None
    if node.attribute("axis") not in {-1, len(shape) - 1} or not isinstance(shape[-1], int):
        return None
    negated = made_by(node.inputs[0], "Neg")
    second = _cut(negated.inputs[0], symbols) if negated is not None else None
    first = _cut(node.inputs[1], symbols)
    size = shape[-1]
    if first is None or second is None or size % 2 or first[0] is not second[0]:
        return None
    halves = first[1:] == (0, size // 2) and second[1:] == (size // 2, size)
    return first[0] if halves and symbols.shape(first[0]) == shape else None


def _cut(value: Value | None, symbols: Symbols) -> tuple[Value, int, int] | None:
    """Return (x, start, stop) of x[..., start:stop], cut by Slice or by Split."""
    node = value.producer if value is not None else None
    if node is None or node.domain or node.op not in {"Slice", "Split"} or not node.inputs:
        return None
    source = node.inputs[0]
    shape = symbols.shape(source)
    if source is None or value is None or not shape or not isinstance(shape[-1], int):
        return None
    last = {-1, len(shape) - 1}
    if node.op == "Split":
        return (
            _split_part(node, value, source, symbols) if node.attribute("axis", 0) in last else None
        )
    given = [symbols.vector(v) for v in node.inputs[1:]]
    if len(given) < 3 or given[2] is None or len(given[2]) != 1 or given[2][0] not in last:
        return None
    if len(given) > 3 and given[3] != (1,):
        return None
    bounds = [g[0] if g else None for g in given[:2]]
    if not all(isinstance(b, int) for b in bounds):
        return None
    start, stop, _ = slice(bounds[0], bounds[1]).indices(shape[-1])
    return source, start, max(start, stop)


def _split_part(
    node: Node, value: Value, source: Value, symbols: Symbols
) -> tuple[Value, int, int] | None:
    start = 0
    for output in node.outputs:
        shape = symbols.shape(output)
        if shape is None or not isinstance(shape[-1], int):
            return None
        if output is value:
            return source, start, start + shape[-1]
        start += shape[-1]
    return None
