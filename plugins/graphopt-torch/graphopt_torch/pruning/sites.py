"""Groups of coupled units that gates can close: where each is summed over, and how wide it may be.

A unit counts for nothing once it is zero wherever an operator sums over it, whatever stands between
the operator that makes it and those (see graphopt.passes.prune.removal.oracle). So a gate sits on
the tensor that a sum reads, between dequantization and product where the graph has Q and DQ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.planner.pruning.sites import widths_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from graphopt.analysis.coupling import Axis, Coupling, Group
    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

MOST_WIDTHS = 7
"""Widths of one group that are told apart, all of it among them."""
_LEAST = 0.25
"""Share of the units below which no width is told apart where there are many."""


@dataclass(frozen=True, eq=False)
class Site:
    """A group that can be made narrower while the model is trained.

    Args:
        group: the units.
        gates: axes of tensors that sums read; zero there is as good as removed.
        widths: how many units may be left, ascending; all of them is the last.
    """

    group: Group
    gates: tuple[Axis, ...]
    widths: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the group."""
        return self.group.name

    @property
    def size(self) -> int:
        """Number of units."""
        return self.group.size


def training_sites(
    graph: Graph, coupling: Coupling, exclude: Collection[str] = ()
) -> tuple[tuple[Site, ...], dict[str, str]]:
    """Return the groups that gates can close, and why the others stay, by name.

    Args:
        graph: with shapes.
        coupling: of the graph.
        exclude: names of groups, or of tensors in them, that stay as they are.
    """
    stored = _made_of_constants(graph)
    sites: list[Site] = []
    staying: dict[str, str] = {}
    for group in coupling.groups:
        gates = _gates(group, stored)
        widths = _widths(group)
        if _is_named(group, exclude):
            staying[group.name] = "the recipe excludes it"
        elif not group.is_exact:
            staying[group.name] = "; ".join(group.inexact)
        elif gates is None:
            staying[group.name] = "an operator sums over it where no gate can stand"
        elif len(widths) > 1:
            sites.append(Site(group, gates, widths))
    return tuple(sites), staying


def kept_units(site: Site, scores: Array, width: int) -> Array:
    """Return which units stay: those of the highest scores, as many of each cell; bool [units].

    Args:
        site: the group.
        scores: what each unit is worth; of equal ones the later unit goes. float64 [units].
        width: units that are wanted.
    """
    group = site.group
    cells = np.unique(group.cells)
    gone = (group.size - width) // len(cells)
    keep = np.ones(group.size, dtype=bool)
    for cell in cells:
        mine = np.flatnonzero(group.cells == cell)
        keep[mine[np.lexsort((-mine, scores[mine]))[:gone]]] = False
    return keep


def _widths(group: Group) -> tuple[int, ...]:
    widths = (*widths_of(group), group.size)
    if len(widths) > MOST_WIDTHS:
        widths = tuple(width for width in widths if width >= _LEAST * group.size)
    places = np.unique(np.linspace(0, len(widths) - 1, MOST_WIDTHS).round().astype(int))
    return tuple(widths[place] for place in places)


def _is_named(group: Group, names: Collection[str]) -> bool:
    return not {group.name, *(axis.value.name for axis in group.axes)}.isdisjoint(names)


def _gates(group: Group, stored: Collection[Value]) -> tuple[Axis, ...] | None:
    """Return where to close a group; None where some sum reads no tensor that a node makes."""
    readers: dict[Node, list[Axis]] = {}
    for consumer in group.consumers:
        found = readers.setdefault(consumer.node, [])
        axis = consumer.source
        if axis is None:
            if consumer.weight is not None and consumer.weight.value not in stored:
                return None
        elif axis.value not in stored and axis.value.producer is not None:
            found.append(axis)
    if not readers or not all(readers.values()):
        return None
    return tuple(dict.fromkeys(axis for axes in readers.values() for axis in axes))


def _made_of_constants(graph: Graph) -> set[Value]:
    """Return the tensors that are the same for every input: weights, and what is made of them."""
    found = {value for value in graph.values() if value.is_constant}
    for node in graph.nodes():
        given = [value for value in node.inputs if value is not None]
        if given and not node.subgraphs and all(value in found for value in given):
            found.update(node.outputs)
    return found


def by_name(sites: Iterable[Site]) -> Mapping[str, Site]:
    """Return sites under their names."""
    return {site.name: site for site in sites}
