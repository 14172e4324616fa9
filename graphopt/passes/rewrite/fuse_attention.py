"""Recognise attention that is spelled out and write it as one operator.

y = softmax(scale * q kᵀ + mask) v for each head is the operator Attention of opset 23, which takes
rows before they are parted into heads, keys and values that several query heads share (grouped
queries: Ainslie et al. 2023) without copies of them, and those of earlier tokens. The model is
rewritten for opset 23 for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from graphopt import ir
from graphopt.analysis.symbols import Symbols
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.patterns.attention import Attention, Operand, read_attention, read_operator
from graphopt.passes.patterns.attention_heads import (
    HEADS_OUTSIDE,
    TURNED,
    TURNED_HEADS,
    declared,
    parted_of_rows,
    rows_of_parted,
)
from graphopt.passes.patterns.attention_masks import Fit, Masks, Part
from graphopt.passes.patterns.attention_scores import Scores, unscaled
from graphopt.passes.patterns.matching import is_onnxruntime, made_by
from graphopt.passes.patterns.newer_opset import for_opset
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_OPSET = 23
_OLDEST_OPSET = 13
"""The first in which Softmax works along one axis."""


@dataclass(frozen=True)
class FuseAttention:
    """Turn spelled-out scaled dot-product attention into Attention."""

    name: ClassVar[str] = "fuse-attention"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match; nothing changes when the model cannot be written for opset 23."""
        if not is_onnxruntime(context.target) or not _is_promising(graph):
            return PassResult(False)
        trial, notes = for_opset(graph, _OPSET)
        fused = _Fusion(trial).run() if trial is not None else 0
        if trial is None or not fused:
            return PassResult(False, notes)
        graph.assign(trial)
        note = counted(fused, "attention", "fused")
        return PassResult(True, (note,), {"fused": fused})


def _is_promising(graph: Graph) -> bool:
    """Whether there is a match, before the model is rewritten for a newer set."""
    if not graph.nodes("Softmax", "Attention") or graph.opset < _OLDEST_OPSET:
        return False
    return bool(_Fusion(graph.copy()).matches())


class _Fusion:
    """Fuses all attentions of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._parted = _part_transposes(graph)
        ir.infer_shapes(graph)
        self.symbols = Symbols(graph)
        self.masks = Masks(graph, self.symbols)
        self._thirds: dict[Value, list[Value]] = {}
        self._rows: dict[Value, Value] = {}
        self._replaced: dict[Value, Value] = {}

    def matches(self) -> list[Attention]:
        """Return all that can be fused, and operators that can be given rows."""
        found = [read_attention(n, self.symbols, self.masks) for n in self.graph.nodes("Softmax")]
        found += [read_operator(n, self.symbols) for n in self.graph.nodes("Attention")]
        return [each for each in found if each is not None]

    def run(self) -> int:
        """Fuse every match, and return how many there were."""
        found = self.matches()
        for each in found:
            if each.operator is not None:
                self._give_rows(each, each.operator)
            elif each.scores is not None:
                self._fuse(each, each.scores)
        if found:
            building.remove_unread(self.graph)
            _join_transposes(self.graph, self._parted)
            self.graph.sort()
        return len(found)

    def _give_rows(self, found: Attention, operator: Node) -> None:
        operands = [self._operand(found, each) for each in found.operands]
        attributes = {name: operator.attribute(name) for name in operator.attribute_names}
        self._write(found, [*operands, *operator.inputs[3:]], attributes)

    def _operand(self, found: Attention, each: Operand) -> Value:
        return self._rows_of(each) if found.by_rows else self._now(each.heads)

    def _put(self, old: Value, new: Value) -> None:
        self.graph.replace_uses(old, new)
        self._replaced[old] = new

    def _now(self, value: Value) -> Value:
        """Return what stands for a value since an earlier attention was fused."""
        while value in self._replaced:
            value = self._replaced[value]
        return value

    def _fuse(self, found: Attention, scores: Scores) -> None:
        scale = scores.scale
        operands: list[Value | None] = []
        for each in found.operands:
            value = self._operand(found, each)
            if len(operands) < 2 and each.past is None:
                plain, factor = unscaled(value)
                if plain is not None and factor > 0:
                    value, scale = plain, scale * factor
            operands.append(value)
        operands.append(self._mask(found, scores.parts, operands))
        attributes: dict[str, Any] = {"scale": scale}
        if scores.cap:
            attributes["softcap"] = scores.cap
        self._write(found, operands, attributes)

    def _write(
        self, found: Attention, operands: list[Value | None], attributes: dict[str, Any]
    ) -> None:
        query, key, value = found.operands
        if found.by_rows:
            attributes["q_num_heads"] = int(query.shape[1])
            attributes["kv_num_heads"] = int(key.shape[1])
        operands += [self._now(o.past) for o in (key, value) if o.past is not None]
        while operands[-1] is None:
            operands.pop()
        names = [self.graph.unique_name(f"{found.mixed.name}_attention")]
        if key.past is not None:
            names += [self.graph.unique_name(f"{found.mixed.name}_{n}") for n in ("key", "value")]
        node = self.graph.add_node("Attention", operands, names, attributes)
        for made in node.outputs:
            made.dtype = found.mixed.dtype
        for operand, made in zip((key, value), node.outputs[1:], strict=False):
            assert operand.whole is not None
            self._put(operand.whole, made)
        self._replace(found, node.outputs[0])

    def _replace(self, found: Attention, made: Value) -> None:
        shape = (*found.scores_shape[:3], found.operands[2].shape[3])
        if not found.by_rows:
            made.shape = declared(shape)
            self._put(found.mixed, made)
            return
        batch, heads, length, size = shape
        made.shape = declared((batch, length, int(heads) * int(size)))
        if found.joined is not None:
            self._put(found.joined, made)
            return
        assert found.parted is not None
        inside = parted_of_rows(self.graph, made, (batch, length, heads, size))
        self._put(found.parted, inside)

    def _mask(
        self, found: Attention, parts: tuple[Part, ...], operands: list[Value | None]
    ) -> Value | None:
        if not parts:
            return None
        shape = self.masks.shape(parts, found.scores_shape)
        query, key = operands[:2]
        assert shape is not None
        assert query is not None
        assert key is not None
        axis = 1 if found.by_rows else 2
        past = found.operands[1].past
        columns = ((key, axis),) if past is None else ((self._now(past), 2), (key, axis))
        rank = self.masks.rank(parts)
        fit = Fit(shape, rank, found.scores_shape, (((query, axis),), columns))
        return self.masks.operand(parts, guarded=found.guarded, fit=fit)

    def _rows_of(self, operand: Operand) -> Value:
        if operand.rows is not None:
            return self._now(operand.rows)
        if operand.packed is not None:
            return self._third(operand)
        assert operand.parted is not None
        parted = self._now(operand.parted)
        if parted not in self._rows:
            batch, heads, length, size = operand.shape
            shape = (batch, length, heads, size)
            self._rows[parted] = rows_of_parted(self.graph, parted, shape)
        return self._rows[parted]

    def _third(self, operand: Operand) -> Value:
        assert operand.packed is not None
        rows = self._now(operand.packed.rows)
        if rows not in self._thirds:
            width = int(operand.shape[1]) * int(operand.shape[3])
            lengths = self.graph.add_constant(f"{rows.name}_thirds", _repeated(width))
            names = [self.graph.unique_name(f"{rows.name}_{n}") for n in ("query", "key", "value")]
            node = self.graph.add_node("Split", [rows, lengths], names, {"axis": 2})
            for part in node.outputs:
                part.dtype = rows.dtype
                part.shape = declared((operand.shape[0], operand.shape[2], width))
            self._thirds[rows] = list(node.outputs)
        return self._thirds[rows][operand.packed.third]


def _repeated(width: int) -> Any:
    import numpy as np

    return np.array([width] * 3, np.int64)


def _part_transposes(graph: Graph) -> list[Node]:
    """Write Transposes that part heads and turn keys at once as two, so that there are heads."""
    parted = []
    for node in graph.nodes("Transpose"):
        source = node.inputs[0]
        if node.attribute("perm") != TURNED_HEADS or source is None or node.domain:
            continue
        order = {"perm": HEADS_OUTSIDE}
        heads = building.add_operator(graph, "Transpose", [source], None, order, like=source)
        node.set_input(0, heads)
        node.set_attribute("perm", TURNED)
        parted.append(node)
    if parted:
        graph.sort()
    return parted


def _join_transposes(graph: Graph, parted: list[Node]) -> None:
    """Undo the parting where no attention was found."""
    left = set(graph.nodes())
    for node in parted:
        heads = made_by(node.inputs[0], "Transpose") if node in left else None
        if heads is not None:
            node.set_input(0, heads.inputs[0])
            node.set_attribute("perm", TURNED_HEADS)
    building.remove_unread(graph)
