"""Join chains of operators that only move data into as few as possible.

Exporters take recurrent states apart and put them together again with a Slice, a Squeeze and an
Unsqueeze for each part. Every operator costs its dispatch, which is what a model pays for that has
one row to compute. The pass follows every element from where it was computed to where it is read,
and writes the shortest way between: nothing, a Reshape, or one Transpose and one Split or Concat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import static_shape
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns import building
from graphopt.passes.rewrite.movement.plan import RELABEL, plan_reads, plan_write
from graphopt.passes.rewrite.movement.source_map import MOVING, SourceMap
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.passes.rewrite.movement.plan import ReadPlan, WritePlan

_COPIES_NOTHING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
_OLDEST_OPSET = 13
"""The first in which Split takes its sizes as an input, as the new ones do."""


@dataclass(frozen=True)
class MergeDataMovement:
    """Replace chains of Slice, Squeeze, Transpose, Concat… by the shortest that does the same."""

    name: ClassVar[str] = "merge-data-movement"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replan every group of connected operators of static shape; keep what is not cheaper."""
        if graph.opset < _OLDEST_OPSET:
            return PassResult(False, (f"needs opset {_OLDEST_OPSET}, not {graph.opset}",))
        ir.infer_shapes(graph)
        before = len(graph.nodes())
        followed, groups = _planned(graph)
        for group in groups:
            group.replace_if_cheaper(graph)
        saved = before - len(graph.nodes())
        graph.sort()
        changed = any(n not in set(graph.nodes()) for n in followed)
        if not changed:
            return PassResult(False)
        note = counted(saved, "operator", "that only moved data saved")
        return PassResult(True, (note,), {"nodes": saved})


@dataclass(frozen=True)
class _Alias:
    """A target that holds a whole source in order."""

    target: Value
    source: Value

    @property
    def cost(self) -> float:
        if static_shape(self.target) != static_shape(self.source):
            return RELABEL
        fixed = self.source.producer is None or self.source.is_output
        return RELABEL if self.target.is_output and fixed else 0.0

    def emit(self, graph: Graph) -> dict[Value, Value]:
        return {self.target: building.reshape(graph, self.source, static_shape(self.target) or ())}


@dataclass(frozen=True)
class _Group:
    """Operators that share values, with a plan for everything that is read of them."""

    nodes: tuple[Node, ...]
    plans: tuple[_Alias | ReadPlan | WritePlan, ...]

    def replace_if_cheaper(self, graph: Graph) -> None:
        if sum(plan.cost for plan in self.plans) >= sum(_cost(n) for n in self.nodes):
            return
        for plan in self.plans:
            for target, made in plan.emit(graph).items():
                graph.replace_uses(target, made)
        for node in reversed(self.nodes):
            if not any(v.uses or v.is_output for v in node.outputs):
                graph.remove(node)


def _cost(node: Node) -> float:
    return RELABEL if node.op in _COPIES_NOTHING else 1.0


def _planned(graph: Graph) -> tuple[dict[Node, None], list[_Group]]:
    """Follow the data, and plan; what has no plan stays, and what it reads is planned instead."""
    candidates = graph.nodes(*MOVING)
    while True:
        known = SourceMap()
        followed = {n: None for n in candidates if known.follow(n)}
        groups = []
        unplanned: set[Node | None] = set()
        for nodes in _connected(followed):
            targets = [v for n in nodes for v in n.outputs if _is_read(v, followed)]
            plans, kept = _plans(targets, known)
            groups.append(_Group(tuple(nodes), plans))
            unplanned.update(v.producer for v in kept)
        if not unplanned:
            return followed, groups
        candidates = [n for n in candidates if n not in unplanned]


def _connected(followed: Mapping[Node, None]) -> list[list[Node]]:
    """Return the operators that are connected by values or by sources, group by group."""
    joined = _Joined()
    for node in followed:
        for value in node.inputs:
            if value is not None and not value.is_constant:
                joined.join(node, value.producer if value.producer in followed else value)
    members: dict[object, list[Node]] = {}
    for node in followed:
        members.setdefault(joined.root(node), []).append(node)
    return list(members.values())


class _Joined:
    """Disjoint sets."""

    def __init__(self) -> None:
        self._parent: dict[object, object] = {}

    def root(self, item: object) -> object:
        while item in self._parent:
            item = self._parent[item]
        return item

    def join(self, one: object, other: object) -> None:
        first, second = self.root(one), self.root(other)
        if first is not second:
            self._parent[first] = second


def _is_read(value: Value, followed: Mapping[Node, None]) -> bool:
    return value.is_output or any(c not in followed for c in value.consumers)


def _plans(
    targets: Sequence[Value], known: SourceMap
) -> tuple[tuple[_Alias | ReadPlan | WritePlan, ...], tuple[Value, ...]]:
    plans: list[_Alias | ReadPlan | WritePlan] = []
    kept: list[Value] = []
    parts: dict[Value, list[Value]] = {}
    for target in targets:
        source = _single_source(target, known)
        if source is None:
            written = plan_write(target, known)
            plans += [written] if written else []
            kept += [] if written else [target]
        elif np.array_equal(known.codes(target).reshape(-1), known.codes(source).reshape(-1)):
            plans.append(_Alias(target, source))
        else:
            parts.setdefault(source, []).append(target)
    for source, wanted in parts.items():
        read = plan_reads(source, wanted, known)
        plans += [read] if read else []
        kept += [] if read else wanted
    return tuple(plans), tuple(kept)


def _single_source(target: Value, known: SourceMap) -> Value | None:
    codes = known.codes(target)
    first = known.source_of(int(codes.min()))
    return first if known.source_of(int(codes.max())) is first else None
