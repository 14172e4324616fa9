"""How heads are made of rows and rows of heads: [B, T, heads * size] and [B, heads, T, size]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import made_by

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims, Symbols
    from graphopt.ir import Graph, Value

HEADS_OUTSIDE = [0, 2, 1, 3]
"""The order of axes that brings heads before time, and back."""


def rows_of_heads(value: Value, symbols: Symbols) -> Value | None:
    """Return the rows [B, T, h * d] that a Reshape and a Transpose made heads of."""
    move = made_by(value, "Transpose")
    if move is None or move.attribute("perm") != HEADS_OUTSIDE:
        return None
    parted = made_by(move.inputs[0], "Reshape")
    rows = parted.inputs[0] if parted is not None else None
    shape, inner = symbols.shape(rows), symbols.shape(move.inputs[0])
    if shape is None or inner is None or len(shape) != 3 or shape[:2] != inner[:2]:
        return None
    return rows if isinstance(inner[2], int) and isinstance(inner[3], int) else None


def heads_of_rows(graph: Graph, rows: Value, shape: Dims) -> Value:
    """Return rows as heads of the shape [B, h, T, d]."""
    batch, heads, length, size = shape
    sizes = graph.add_constant(f"{rows.name}_heads", np.array([0, 0, heads, size], np.int64))
    parted = building.add_operator(
        graph, "Reshape", [rows, sizes], (batch, length, heads, size), like=rows
    )
    return building.transpose(graph, parted, HEADS_OUTSIDE)


@dataclass(frozen=True)
class Repeated:
    """Heads that several query heads share: ``heads`` before they are repeated."""

    heads: Value
    count: int


def unrepeated(value: Value, symbols: Symbols) -> Repeated:
    """Return the heads before Unsqueeze, Expand and Reshape repeat each; ``value`` without that."""
    shape = symbols.shape(value)
    joined = made_by(value, "Reshape")
    expand = made_by(joined.inputs[0], "Expand") if joined is not None else None
    single = made_by(expand.inputs[0], "Unsqueeze", "Reshape") if expand is not None else None
    source = single.inputs[0] if single is not None else None
    before, wide = symbols.shape(source), symbols.shape(expand.outputs[0]) if expand else None
    if shape is None or before is None or wide is None or source is None or expand is None:
        return Repeated(value, 1)
    if len(shape) != 4 or len(before) != 4 or len(wide) != 5 or not isinstance(wide[2], int):
        return Repeated(value, 1)
    batch, heads, *rest = before
    together = isinstance(heads, int) and shape == (batch, heads * wide[2], *rest)
    inserted = symbols.shape(expand.inputs[0]) == (batch, heads, 1, *rest)
    same = wide == (batch, heads, wide[2], *rest)
    return Repeated(source, wide[2]) if together and inserted and same else Repeated(value, 1)
