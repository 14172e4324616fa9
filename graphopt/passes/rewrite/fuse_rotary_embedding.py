"""Recognise a rotary position embedding that is spelled out and write it as one operator.

Pairs of features of each head are rotated by an angle that grows with the position (Su et al. 2021,
RoFormer, equation 34). Of neighbouring features, by constant tables, com.microsoft.RotaryEmbedding
is made, which reads rows before they are parted into heads; of the two halves of a head, by tables
that may be computed, RotaryEmbedding of opset 23, for which the model is rewritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis.symbols import Symbols
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.attention_heads import (
    heads_of_rows,
    joined_rows,
    parted_of_rows,
    parted_rows,
    rows_of_heads,
    rows_of_parted,
)
from graphopt.passes.patterns.half_rotation import HalfRotation, read_half_rotation
from graphopt.passes.patterns.interleaved_rotation import (
    InterleavedRotation,
    read_interleaved_rotation,
)
from graphopt.passes.patterns.matching import is_onnxruntime
from graphopt.passes.patterns.newer_opset import for_opset
from graphopt.passes.patterns.rotation_tables import HalvedTables
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims
    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Context

_OPSET = 23


@dataclass(frozen=True)
class FuseRotaryEmbedding:
    """Turn spelled-out rotations by position into RotaryEmbedding."""

    name: ClassVar[str] = "fuse-rotary-embedding"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match, where the target's runtime has the operator."""
        if not is_onnxruntime(context.target):
            return PassResult(False)
        fused = _fuse_interleaved(graph)
        halves, notes = _fuse_halves(graph)
        if not fused + halves:
            return PassResult(False, notes)
        building.remove_unread(graph)
        graph.sort()
        note = counted(fused + halves, "rotary embedding", "fused")
        return PassResult(True, (note, *notes), {"fused": fused + halves})


def _fuse_interleaved(graph: Graph) -> int:
    if not graph.nodes("Sub"):
        return 0
    ir.infer_shapes(graph)
    symbols = Symbols(graph)
    read = (read_interleaved_rotation(n, symbols) for n in graph.nodes("Reshape"))
    found = [each for each in read if each is not None]
    for each in found:
        _write_interleaved(graph, each, symbols)
    if found:
        graph.opsets.setdefault("com.microsoft", 1)
        building.remove_unread(graph)
        graph.sort()
    return len(found)


def _fuse_halves(graph: Graph) -> tuple[int, tuple[str, ...]]:
    """Fuse rotations of halves; the model is written for opset 23 only if there is one."""
    if not graph.nodes("Neg") or not _halves(graph)[0]:
        return 0, ()
    trial, notes = for_opset(graph, _OPSET)
    if trial is None:
        return 0, notes
    found, symbols, tables = _halves(trial)
    for each in found:
        _write_halves(trial, each, symbols, tables)
    if found:
        building.remove_unread(trial)
        trial.sort()
        graph.assign(trial)
    return len(found), ()


def _halves(graph: Graph) -> tuple[list[HalfRotation], Symbols, HalvedTables]:
    ir.infer_shapes(graph)
    symbols = Symbols(graph)
    tables = HalvedTables(graph, symbols)
    read = (read_half_rotation(n, symbols, tables) for n in graph.nodes("Add"))
    return [each for each in read if each is not None], symbols, tables


def _write_interleaved(graph: Graph, found: InterleavedRotation, symbols: Symbols) -> None:
    shape = symbols.shape(found.x)
    assert shape is not None
    rows = rows_of_heads(found.x, symbols)
    start = graph.add_constant(f"{found.result.name}_start", np.zeros(1, np.int64))
    source = found.x if rows is None else rows
    made = building.add_operator(
        graph,
        "RotaryEmbedding",
        [source, start, found.cos, found.sin],
        symbols.shape(source),
        {"interleaved": 1},
        like=found.result,
        domain="com.microsoft",
    )
    made.dtype = found.x.dtype
    if rows is not None:
        made = heads_of_rows(graph, made, shape)
    graph.replace_uses(found.result, made)


def _write_halves(
    graph: Graph, found: HalfRotation, symbols: Symbols, tables: HalvedTables
) -> None:
    shape = found.shape
    both = [tables.table(t, found.heads_axis, shape[0], found.x) for t in (found.cos, found.sin)]
    attributes: dict[str, Any] = {}
    if found.width != shape[3]:
        attributes["rotary_embedding_dim"] = found.width
    rows = _rows(graph, found, symbols)
    if rows is not None:
        attributes["num_heads"] = int(shape[found.heads_axis])
    source = found.x if rows is None else rows
    made = building.add_operator(
        graph, "RotaryEmbedding", [source, *both], source.shape, attributes, like=found.result
    )
    made.dtype = found.x.dtype
    if rows is not None:
        back = heads_of_rows if found.heads_axis == 1 else parted_of_rows
        made = back(graph, made, shape)
    graph.replace_uses(found.result, made)


def _rows(graph: Graph, found: HalfRotation, symbols: Symbols) -> Value | None:
    """Return the rows [B, T, h * d] of what is rotated; None where heads are all there is."""
    if found.heads_axis == 2:
        return joined_rows(found.x, symbols) or rows_of_parted(graph, found.x, found.shape)
    rows = rows_of_heads(found.x, symbols)
    parted = parted_rows(found.x, symbols) if rows is None else None
    if parted is None:
        return rows
    batch, heads, length, size = found.shape
    inside: Dims = (batch, length, heads, size)
    return rows_of_parted(graph, parted, inside)
