"""Where something can be taken away, and how much of it is worth a try."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.branches import Branch
    from graphopt.analysis.coupling import Coupling, Group
    from graphopt.ir import Node

_CHANNELS = 8
"""Channels that kernels take at once on every target, or a divisor of that."""
_NARROW = 16
"""Widths up to which half of that is tried as well."""
_NEAR = 0.7
"""Share of the units down to which every width is tried; losses grow faster than what is saved."""
MOST_NEAR = 12
FAR_WIDTHS = 5
"""Widths below that which are tried."""


@dataclass(frozen=True)
class WidthSite:
    """A group that can be made narrower.

    Args:
        group: the units.
        widths: how many of them could be left, ascending; all of them is not among these.
        nodes: every operator that touches the group.
    """

    group: Group
    widths: tuple[int, ...]
    nodes: tuple[Node, ...]

    @property
    def name(self) -> str:
        """The name of the group."""
        return self.group.name


def width_sites(
    coupling: Coupling, nodes: Sequence[Node], near: int = MOST_NEAR, far: int = FAR_WIDTHS
) -> tuple[WidthSite, ...]:
    """Return the groups of a graph that can shrink, with the widths worth a try.

    Args:
        coupling: of the graph.
        nodes: of the graph, in order.
        near: widths close to all units that are tried.
        far: widths further away that are.
    """
    found = []
    for group in coupling.groups:
        widths = widths_of(group, near, far)
        if widths:
            values = {axis.value for axis in group.axes}
            touching = (n for n in nodes if not values.isdisjoint((*n.inputs, *n.outputs)))
            found.append(WidthSite(group, widths, tuple(touching)))
    return tuple(found)


def widths_of(group: Group, near: int = MOST_NEAR, far: int = FAR_WIDTHS) -> tuple[int, ...]:
    """Return numbers of units that leave round numbers of channels, ascending; few far ones.

    Kernels compute channels in blocks, so that 63 cost more than 64. A unit may be several channels
    (a head, a column of a flattened image), and cells must lose as many each.
    """
    per_unit = _channels_per_unit(group)
    block = _CHANNELS if group.size * per_unit > _NARROW else _CHANNELS // 2
    step = math.lcm(group.step, block // math.gcd(block, per_unit))
    if step >= group.size:
        step = group.step
    # From the full width downwards, or the sizes of cells would not stay equal.
    widths = [w for w in range(group.size - step, 0, -step) if w >= group.step]
    if group.size % step:
        rest = group.size % step
        aligned = [w - rest for w in (*widths, group.size) if w - rest >= group.step]
        widths = sorted({w for w in aligned if _is_balanced(group, w)}, reverse=True) or widths
    close = [w for w in widths if w >= _NEAR * group.size]
    chosen = [*_spread(close, near), *_spread(widths[len(close) :], far)]
    return tuple(sorted(chosen))


def _spread(widths: list[int], most: int) -> list[int]:
    """Return at most so many of some widths, evenly, the first and the last among them."""
    if len(widths) <= most:
        return widths
    places = np.unique(np.linspace(0, len(widths) - 1, most).round().astype(int))
    return [widths[place] for place in places]


def _is_balanced(group: Group, width: int) -> bool:
    return (group.size - width) % group.step == 0


def _channels_per_unit(group: Group) -> int:
    """Return how many channels of a producer, or else of any axis, one unit is."""
    weights = {producer.weight for producer in group.producers}
    axes = [axis for axis in group.axes if axis in weights] or list(group.axes)
    counts = [int((group.units[axis] == 0).sum()) for axis in axes]
    return max(1, min(counts))


def contains(branch: Branch, site: WidthSite) -> bool:
    """Whether everything that touches a site is inside a branch."""
    return set(site.nodes) <= set(branch.nodes)
