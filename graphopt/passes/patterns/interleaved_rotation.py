"""Rotations of neighbouring features of each head, with constant tables, as the first models had.

y[2i] = x[2i] cos - x[2i+1] sin, y[2i+1] = x[2i] sin + x[2i+1] cos, whose halves are gathered with
steps of two and joined on an axis of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.passes.patterns.matching import made_by
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Symbols
    from graphopt.ir import Node, Value


@dataclass(frozen=True)
class InterleavedRotation:
    """One rotation of ``x`` [B, h, T, d] by constant tables of T or more rows, d / 2 columns."""

    x: Value
    cos: Value
    sin: Value
    result: Value


def read_interleaved_rotation(node: Node, symbols: Symbols) -> InterleavedRotation | None:
    """Return the rotation whose pairs this Reshape joins."""
    if node.domain or not node.inputs:
        return None
    joined = made_by(node.inputs[0], "Concat")
    if joined is None or len(joined.inputs) != 2 or joined.attribute("axis") not in {-1, 4}:
        return None
    even, odd = (_paired(v, symbols) for v in joined.inputs)
    real, imaginary = _products(even, "Sub"), _products(odd, "Add")
    if real is None or imaginary is None:
        return None
    found = _operands(real, imaginary)
    if found is None:
        return None
    x = _halves(found[0], found[1], symbols)
    shape = symbols.shape(x)
    if x is None or shape is None or shape != symbols.shape(node.outputs[0]) or len(shape) != 4:
        return None
    cos, sin = (_table(v, shape[2], symbols) for v in found[2:])
    if cos is None or sin is None or x.dtype is not DType.FLOAT:
        return None
    fits = shape[3] == 2 * cos.array().shape[1] and cos.array().shape == sin.array().shape
    return InterleavedRotation(x, cos, sin, node.outputs[0]) if fits else None


def _paired(value: Value | None, symbols: Symbols) -> Value | None:
    """Return what an Unsqueeze of the last axis is given."""
    node = made_by(value, "Unsqueeze")
    source = node.inputs[0] if node is not None else None
    shape, inner = symbols.shape(value), symbols.shape(source)
    return source if inner is not None and shape == (*inner, 1) and len(inner) == 4 else None


def _products(value: Value | None, op: str) -> tuple[Node, Node] | None:
    """Return the two Mul whose results ``op`` takes."""
    node = made_by(value, op)
    if node is None or len(node.inputs) != 2:
        return None
    first, second = (made_by(v, "Mul") for v in node.inputs)
    return (first, second) if first is not None and second is not None else None


def _operands(
    real: tuple[Node, Node], imaginary: tuple[Node, Node]
) -> tuple[Value, Value, Value, Value] | None:
    """Return (even, odd, cos, sin) of even cos - odd sin and even sin + odd cos."""
    for even, cos in _both_ways(real[0]):
        for odd, sin in _both_ways(real[1]):
            found = [set(n.inputs) for n in imaginary]
            if found in ([{even, sin}, {odd, cos}], [{odd, cos}, {even, sin}]):
                return even, odd, cos, sin
    return None


def _both_ways(node: Node) -> list[tuple[Value, Value]]:
    first, second = node.inputs
    return [] if first is None or second is None else [(first, second), (second, first)]


def _halves(even: Value, odd: Value, symbols: Symbols) -> Value | None:
    """Return x of x[..., 0::2] and x[..., 1::2]."""
    sources = [_every_second(v, start, symbols) for start, v in enumerate((even, odd))]
    return sources[0] if sources[0] is sources[1] else None


def _every_second(value: Value, start: int, symbols: Symbols) -> Value | None:
    node = made_by(value, "Slice")
    source = node.inputs[0] if node is not None and len(node.inputs) == 5 else None
    shape = symbols.shape(source)
    if node is None or shape is None or not isinstance(shape[-1], int) or shape[-1] % 2:
        return None
    starts, ends, axes, steps = (symbols.vector(v) for v in node.inputs[1:])
    if starts != (start,) or steps != (2,) or axes not in {(-1,), (len(shape) - 1,)}:
        return None
    reaches = ends is not None and isinstance(ends[0], int) and ends[0] >= shape[-1]
    return source if reaches else None


def _table(value: Value, length: int | str, symbols: Symbols) -> Value | None:
    """Return the constant [rows, columns] of which ``value`` is the first ``length`` rows."""
    if value.is_constant:
        return value if value.array().ndim == 2 and value.array().shape[0] == length else None
    node = made_by(value, "Slice")
    if node is None or len(node.inputs) < 4:
        return None
    table, *bounds = node.inputs
    given = [symbols.vector(v) for v in bounds]
    steps = given[3] if len(given) > 3 else (1,)
    if table is None or not table.is_constant or table.array().ndim != 2:
        return None
    whole = given[0] == (0,) and given[1] == (length,) and given[2] in {(0,), (-2,)}
    return table if whole and steps == (1,) else None
