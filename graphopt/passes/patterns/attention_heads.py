"""How heads are made of rows and rows of heads: [B, T, heads * size] and [B, heads, T, size]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis import integers
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import made_by, sole_reader

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims, Symbols
    from graphopt.ir import Graph, Node, Value

HEADS_OUTSIDE = [0, 2, 1, 3]
"""The order of axes that brings heads before time, and back."""
TURNED = [0, 1, 3, 2]
TURNED_HEADS = [0, 2, 3, 1]
PACKED_OUTSIDE = [2, 0, 3, 1, 4]
"""The order that brings query, key and value, and then heads, before time."""


def unmoved(value: Value | None, symbols: Symbols) -> Value | None:
    """Return what operators that keep every element where it is are given."""
    while (node := made_by(value, "Reshape", "Identity", "Expand")) is not None:
        source = node.inputs[0]
        shape = symbols.shape(source)
        if source is None or shape is None or shape != symbols.shape(value):
            return value
        value = source
    return value


def followed(value: Value, symbols: Symbols) -> Value:
    """Return what the only readers make of ``value`` as long as they keep every element."""
    while not value.is_output:
        shape = symbols.shape(value)
        made = [n.outputs[0] for n in value.consumers if _keeps(n, value)]
        same = shape is not None and len(made) == 1 and symbols.shape(made[0]) == shape
        if not same or not leads_only_to(value, made[0]):
            break
        value = made[0]
    return value


def _keeps(node: Node, value: Value) -> bool:
    return node.op in {"Reshape", "Identity"} and not node.domain and node.inputs[0] is value


_MOST_READERS = 40
_MOVING = frozenset(
    {"Cast", "Concat", "Div", "Equal", "Expand", "Gather", "Identity", "Mul", "Reshape", "Shape",
     "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"}
)  # fmt: skip
"""What lies between heads, or their sizes, and where they are used."""


def leads_only_to(value: Value, end: Value) -> bool:
    """Whether all that is made of ``value`` leads to ``end``; its sizes may be read on the way."""
    front, seen = [value] if end is not value else [], {end}
    for each in front:
        if len(front) > _MOST_READERS or (each.is_output and each is not value):
            return False
        for node in each.consumers:
            if node.graph is not value.graph or node.domain or node.op not in _MOVING:
                return False
            front += [v for v in node.outputs if v not in seen]
            seen.update(node.outputs)
    return True


def parted_rows(value: Value, symbols: Symbols) -> Value | None:
    """Return [B, T, h, d] of which a Transpose makes the heads [B, h, T, d]."""
    move = made_by(unmoved(value, symbols), "Transpose")
    if move is None or move.attribute("perm") != HEADS_OUTSIDE:
        return None
    shape = symbols.shape(move.inputs[0])
    known = shape is not None and all(isinstance(d, int) for d in shape[2:])
    return move.inputs[0] if known else None


def rows_of_heads(value: Value, symbols: Symbols) -> Value | None:
    """Return the rows [B, T, h * d] that a Reshape and a Transpose made heads of."""
    parted = unmoved(parted_rows(value, symbols), symbols)
    return None if parted is None else joined_rows(parted, symbols)


def joined_rows(parted: Value, symbols: Symbols) -> Value | None:
    """Return the rows [B, T, h * d] that a Reshape parted into [B, T, h, d]."""
    node = made_by(parted, "Reshape")
    rows = node.inputs[0] if node is not None else None
    shape, inner = symbols.shape(rows), symbols.shape(parted)
    if shape is None or inner is None or len(shape) != 3 or shape[:2] != inner[:2]:
        return None
    return rows if isinstance(inner[2], int) and isinstance(inner[3], int) else None


def declared(shape: Dims) -> tuple[int | str | None, ...]:
    """Return dimensions as a graph has them: names that were made up are not written down."""
    return tuple(None if isinstance(d, str) and d.startswith(("?", "~")) else d for d in shape)


def heads_of_rows(graph: Graph, rows: Value, shape: Dims) -> Value:
    """Return rows as heads of the shape [B, h, T, d]."""
    batch, heads, length, size = shape
    parted = parted_of_rows(graph, rows, (batch, length, heads, size))
    return building.transpose(graph, parted, HEADS_OUTSIDE)


def parted_of_rows(graph: Graph, rows: Value, shape: Dims) -> Value:
    """Return rows with heads of their own, of the shape [B, T, h, d]."""
    name = graph.unique_name(f"{rows.name}_heads")
    sizes = graph.add_constant(name, np.array([0, 0, *shape[2:]], np.int64))
    return building.add_operator(graph, "Reshape", [rows, sizes], declared(shape), like=rows)


def rows_of_parted(graph: Graph, parted: Value, shape: Dims) -> Value:
    """Return [B, T, h, d], of the given shape, as rows [B, T, h * d]."""
    batch, length, heads, size = shape
    width = int(heads) * int(size)
    name = graph.unique_name(f"{parted.name}_rows")
    sizes = graph.add_constant(name, np.array([0, 0, width], np.int64))
    flat = declared((batch, length, width))
    return building.add_operator(graph, "Reshape", [parted, sizes], flat, like=parted)


@dataclass(frozen=True)
class Packed:
    """Heads that are one of three thirds of common rows [B, T, 3 * h * d]."""

    rows: Value
    third: int


def packed_third(value: Value, symbols: Symbols) -> Packed | None:
    """Return the rows of which a Reshape to [B, T, 3, h, d] and a Transpose make [3, B, h, T, d].

    ``value`` is one of the three, taken by Gather, or by Split or Slice and Squeeze.
    """
    taken = _taken_first(unmoved(value, symbols), symbols)
    if taken is None:
        return None
    source, third = taken
    move = made_by(source, "Transpose")
    node = made_by(move.inputs[0], "Reshape") if move is not None else None
    rows = node.inputs[0] if node is not None else None
    shape = symbols.shape(rows)
    inner = symbols.shape(move.inputs[0]) if move is not None else None
    if move is None or move.attribute("perm") != PACKED_OUTSIDE or rows is None:
        return None
    if shape is None or inner is None or len(shape) != 3 or len(inner) != 5:
        return None
    numbers = all(isinstance(d, int) for d in inner[2:])
    return Packed(rows, third) if numbers and shape[:2] == inner[:2] and inner[2] == 3 else None


def _taken_first(value: Value | None, symbols: Symbols) -> tuple[Value, int] | None:
    """Return (x, i) of x[i]."""
    node = made_by(value, "Gather", "Squeeze")
    if node is None or node.inputs[0] is None:
        return None
    if node.op == "Gather":
        at = integers(node.inputs[1])
        index = node.inputs[1]
        plain = index is not None and index.tensor is not None and not index.tensor.shape
        found = at[0] if at and plain and node.attribute("axis", 0) == 0 else None
        return None if found is None else (node.inputs[0], found % 3)
    shape = symbols.shape(node.inputs[0])
    if shape is None or shape[0] != 1 or symbols.shape(value) != shape[1:]:
        return None
    return _part_of(node.inputs[0], symbols)


def _part_of(value: Value, symbols: Symbols) -> tuple[Value, int] | None:
    """Return (x, i) of x[i:i+1], of the first axis."""
    node = value.producer
    if node is None or node.domain or node.op not in {"Split", "Slice"} or not node.inputs[0]:
        return None
    if node.op == "Split":
        shapes = [symbols.shape(v) for v in node.outputs]
        single = all(s is not None and s[0] == 1 for s in shapes)
        first = node.attribute("axis", 0) == 0 and single
        return (node.inputs[0], node.outputs.index(value)) if first else None
    given = [integers(v) for v in node.inputs[1:]]
    plain = len(given) >= 3 and given[2] == [0] and (len(given) < 4 or given[3] == [1])
    return (node.inputs[0], given[0][0] % 3) if plain and given[0] is not None else None


@dataclass(frozen=True)
class Repeated:
    """Heads that several query heads share: ``heads`` before they are repeated."""

    heads: Value
    count: int


def unrepeated(value: Value, symbols: Symbols) -> Repeated:
    """Return the heads before Unsqueeze, Expand and Reshape repeat each; ``value`` without that.

    Tile in the place of Expand, and a Gather that takes each head several times, are understood.
    """
    plain = unmoved(value, symbols) or value
    shape = symbols.shape(plain)
    if shape is None or len(shape) != 4:
        return Repeated(plain, 1)
    return _expanded(plain, shape, symbols) or _gathered(plain, symbols) or Repeated(plain, 1)


def _expanded(value: Value, shape: Dims, symbols: Symbols) -> Repeated | None:
    joined = made_by(value, "Reshape")
    expand = made_by(joined.inputs[0], "Expand", "Tile") if joined is not None else None
    single = made_by(expand.inputs[0], "Unsqueeze", "Reshape") if expand is not None else None
    source = single.inputs[0] if single is not None else None
    if source is None or expand is None:
        return None
    before, wide = symbols.shape(source), symbols.shape(expand.outputs[0])
    if before is None or wide is None or len(before) != 4 or len(wide) != 5:
        return None
    count = wide[2]
    batch, heads, *rest = before
    if not isinstance(count, int) or not isinstance(heads, int):
        return None
    together = shape == (batch, heads * count, *rest)
    inserted = symbols.shape(expand.inputs[0]) == (batch, heads, 1, *rest)
    same = wide == (batch, heads, count, *rest)
    return (
        Repeated(unmoved(source, symbols) or source, count)
        if together and inserted and same
        else None
    )


def _gathered(value: Value, symbols: Symbols) -> Repeated | None:
    node = made_by(value, "Gather")
    if node is None or node.attribute("axis", 0) != 1 or node.inputs[0] is None:
        return None
    source, order = node.inputs[0], integers(node.inputs[1])
    before = symbols.shape(source)
    heads = before[1] if before is not None and len(before) == 4 else None
    if not order or not isinstance(heads, int) or not heads or len(order) % heads:
        return None
    count = len(order) // heads
    wanted = [head for head in range(heads) for _ in range(count)]
    return Repeated(source, count) if count > 1 and order == wanted else None


def lifted(value: Value | None, symbols: Symbols) -> Value | None:
    """Return [B, h, T, d] that a Reshape made [B * h, T, d] of; a tensor of four axes itself."""
    shape = symbols.shape(value)
    if shape is None or len(shape) == 4:
        return value
    node = made_by(unmoved(value, symbols), "Reshape")
    source = node.inputs[0] if node is not None else None
    before = symbols.shape(source)
    same = before is not None and len(before) == 4 and before[2:] == shape[1:]
    return source if same and len(shape) == 3 else None


def lowered(value: Value | None, symbols: Symbols) -> Value | None:
    """Return [B * h, T, S] that a Reshape made [B, h, T, S] of, or ``value``."""
    node = made_by(value, "Reshape")
    source = node.inputs[0] if node is not None else None
    before, after = symbols.shape(source), symbols.shape(value)
    if before is None or after is None or len(before) != 3 or len(after) != 4:
        return value
    return source if before[1:] == after[2:] else value


def regrouped(value: Value, maker: Node, symbols: Symbols) -> Value | None:
    """Return [B, h, T, d] that the only reader of [B * h, T, d] makes of it."""
    node = sole_reader(value, maker, "Reshape")
    before = symbols.shape(value)
    after = symbols.shape(node.outputs[0]) if node is not None else None
    if node is None or before is None or after is None or len(after) != 4:
        return None
    return node.outputs[0] if after[2:] == before[1:] else None


def unturned(value: Value | None, symbols: Symbols) -> Value | None:
    """Return k of kᵀ [B, h, d, S], turned by a Transpose, alone or between two Reshapes."""
    plain = unmoved(value, symbols)
    node = made_by(plain, "Transpose")
    if node is not None:
        return node.inputs[0] if node.attribute("perm") in (TURNED, [0, 2, 1]) else None
    return _unturned_flat(plain, symbols)


def _unturned_flat(value: Value | None, symbols: Symbols) -> Value | None:
    """Return k where it was turned as [B * h, S, d]."""
    outer = made_by(value, "Reshape")
    move = made_by(outer.inputs[0], "Transpose") if outer is not None else None
    inner = made_by(move.inputs[0], "Reshape") if move is not None else None
    source = inner.inputs[0] if inner is not None else None
    if move is None or move.attribute("perm") != [0, 2, 1]:
        return None
    before, after = symbols.shape(source), symbols.shape(value)
    flat = symbols.shape(move.inputs[0])
    if before is None or after is None or flat is None or len(before) != 4 or len(after) != 4:
        return None
    turns = after == (*before[:2], before[3], before[2]) and flat[1:] == before[2:]
    return source if turns else None


def rows_read(value: Value, maker: Node, symbols: Symbols) -> tuple[Value, Value | None] | None:
    """Return [B, T, h, d] where a Transpose brings heads back, and the rows joined of it."""
    move = sole_reader(value, maker, "Transpose")
    if move is None or move.attribute("perm") != HEADS_OUTSIDE:
        return None
    parted = move.outputs[0]
    shape = symbols.shape(parted)
    if shape is None or not all(isinstance(d, int) for d in shape[2:]):
        return None
    node = sole_reader(parted, move, "Reshape")
    wanted = (*shape[:2], int(shape[2]) * int(shape[3]))
    joins = node is not None and symbols.shape(node.outputs[0]) == wanted
    return parted, node.outputs[0] if joins and node is not None else None
