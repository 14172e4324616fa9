"""Heads that lie one after another on an axis, and go as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rules.alignment import rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]


class Heads:
    """Where the units of an attention are on the axes of its tensors.

    Args:
        node: the attention.
        units: number of heads, or of groups of heads that share their keys.
    """

    def __init__(self, node: Node, units: int) -> None:
        self.node = node
        self.units = units
        self._members: dict[Axis, Array] = {}
        self._fits = units > 0

    def add(
        self, value: Value | None, place: int, sizes: Sequence[int] | None = None, *,
        shared: bool = False,
    ) -> None:  # fmt: skip
        """Say that an axis consists of parts in each of which every unit has an equal run.

        Args:
            value: the tensor; None is passed over.
            place: the axis.
            sizes: of the parts; the whole axis is one by default.
            shared: whether an axis of one index serves all units.
        """
        if value is None:
            return
        axis = Axis(value, place)
        parts = list(sizes) if sizes is not None else [axis.size or 0]
        if shared and axis.size == 1:
            return
        whole = axis.size is not None and place < rank(value) and sum(parts) == axis.size
        if not whole or not self.units or any(part % self.units for part in parts):
            self._fits = False
            return
        starts = np.cumsum([0, *parts[:-1]])
        runs = [
            start + np.arange(part).reshape(self.units, -1)
            for start, part in zip(starts, parts, strict=True)
        ]
        self._members[axis] = np.concatenate(runs, axis=1)

    def couple(self, links: Links) -> bool:
        """Tie all indices of every unit; freeze the node where the sizes do not fit the heads."""
        if not self._fits or not self._members:
            links.freeze_node(self.node, f"the heads of `{self.node.label}` do not fit its sizes")
            return False
        first, places = next(iter(self._members.items()))
        for axis, members in self._members.items():
            anchors = np.repeat(places[:, 0], members.shape[1])
            links.tie(first, axis, anchors, members.reshape(-1))
        return True


def heads_left(count: int, value: Value, place: int, cut: Cut) -> int:
    """Return how many of ``count`` heads on an axis are left by a cut."""
    keep = cut.keep(value, place)
    return count if keep is None else count * int(keep.sum()) // keep.size
