"""A group of units in words: what one is, who makes and reads it, and what hangs on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.prunability.facts import GroupFacts, Span
from graphopt.analysis.prunability.weights import covered_by, reached

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.analysis.coupling import Axis, Group
    from graphopt.analysis.coupling.couple import Trace
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_ROTARY = "RotaryEmbedding"


@dataclass(frozen=True)
class Costs:
    """What the parts of a model weigh.

    Args:
        weights: numbers stored, by weight.
        kernels: operators that run as one, by label, with their milliseconds.
    """

    weights: Mapping[Value, int]
    kernels: Sequence[tuple[tuple[str, ...], float]]

    def weight_share(self, covered: Mapping[Axis, float]) -> float:
        """Return the share of all weights that runs through covered indices, in [0, 1]."""
        total = sum(self.weights.values())
        hung = sum(size * reached(value, covered) for value, size in self.weights.items())
        return hung / total if total else 0.0

    def time_of(self, shares: Mapping[str, float]) -> float:
        """Return the milliseconds of operators, given which share of each counts, by label."""
        return sum(
            ms * max((shares.get(label, 0.0) for label in labels), default=0.0)
            for labels, ms in self.kernels
        )

    @property
    def milliseconds(self) -> float:
        """Time of all of them."""
        return sum(ms for _, ms in self.kernels)


def describe_group(group: Group, trace: Trace, nodes: Iterable[Node], costs: Costs) -> GroupFacts:
    """Return what is told of a group.

    Args:
        group: of the trace's coupling.
        trace: says which axes are stacked.
        nodes: of the graph, in order.
        costs: of the graph.
    """
    covered = covered_by([group])
    order = {node: number for number, node in enumerate(nodes)}
    shares = {node.label: _touch(node, covered) for node in order}
    spent = costs.time_of(shares)
    return GroupFacts(
        name=group.name,
        units=group.size,
        unit=unit_of(group, trace),
        width=_width(group),
        step=group.step,
        spans=tuple(_span(axis, units) for axis, units in group.units.items()),
        makers=_labels((p.node for p in group.producers), order),
        readers=_labels((c.node for c in group.consumers), order),
        inexact=group.inexact,
        weights=costs.weight_share(covered),
        time=spent / costs.milliseconds if costs.milliseconds else 0.0,
        milliseconds=spent,
    )


def unit_of(group: Group, trace: Trace) -> str:
    """Return what a unit is: a head, a hidden unit, a channel or a feature."""
    if _is_stacked(group, trace) or (_width(group) > 1 and _is_attended(group, trace)):
        return "head"
    ops = [p.node.op for p in group.producers] or [c.node.op for c in group.consumers]
    if any(op in _RECURRENT for op in ops):
        return "hidden unit"
    return "channel" if any("Conv" in op for op in ops) else "feature"


def _is_stacked(group: Group, trace: Trace) -> bool:
    """Whether whole products are stacked along an axis of the units."""
    table, labels = trace.links.table, trace.labels
    stacked = np.zeros(labels.size, dtype=bool)
    for atoms in trace.links.batched:
        stacked[labels[atoms]] = True
    mine = (labels[table.atoms(axis)][units >= 0] for axis, units in group.units.items())
    return any(stacked[some].any() for some in mine)


def _is_attended(group: Group, trace: Trace) -> bool:
    """Whether an operator that is an attention as a whole touches the units."""
    values = {axis.value for axis in group.axes}
    attending = (n for n in trace.links.graph.nodes() if "Attention" in n.op or n.op == _ROTARY)
    return any(not values.isdisjoint((*node.inputs, *node.outputs)) for node in attending)


def _width(group: Group) -> int:
    weights = {producer.weight for producer in group.producers}
    axes = [axis for axis in group.axes if axis in weights] or list(group.axes)
    return max(1, min(_per_unit(group.units[axis]) for axis in axes))


def _per_unit(units: Array) -> int:
    return int(np.bincount(units[units >= 0]).max(initial=0))


def _span(axis: Axis, units: Array) -> Span:
    return Span(
        axis.value.name,
        axis.position,
        _per_unit(units),
        int((units >= 0).sum()),
        int(units.size),
        axis.value.is_constant,
    )


def _labels(nodes: Iterable[Node], order: Mapping[Node, int]) -> tuple[str, ...]:
    known = sorted(set(nodes), key=lambda node: order.get(node, len(order)))
    return tuple(dict.fromkeys(node.label for node in known))


def _touch(node: Node, covered: Mapping[Axis, float]) -> float:
    """Return the largest share of an axis of a node's tensors that belongs to a group."""
    values = {v for v in (*node.inputs, *node.outputs) if v is not None}
    return max((s for axis, s in covered.items() if axis.value in values), default=0.0)
