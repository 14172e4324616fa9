"""Which indices of which axes are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]


class Cut:
    """What is kept of every axis that loses something.

    Args:
        keeps: bool [size] for axes that lose indices; axes that keep all are absent.
    """

    def __init__(self, keeps: Mapping[Axis, Array]) -> None:
        self._keeps = {axis: keep for axis, keep in keeps.items() if not keep.all()}

    def __bool__(self) -> bool:
        """Whether anything goes."""
        return bool(self._keeps)

    def on(self, graph: Graph) -> Cut:
        """Return the same cut for a copy of the graph: tensors are told by their names."""
        return Cut({Axis(graph.value(a.value.name), a.position): k for a, k in self._keeps.items()})

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes that lose indices."""
        return tuple(self._keeps)

    def touches(self, value: Value | None) -> bool:
        """Whether some axis of a tensor loses indices."""
        rank = len(value.shape or ()) if value is not None else 0
        return any(Axis(value, i) in self._keeps for i in range(rank) if value is not None)

    def keep(self, value: Value, position: int) -> Array | None:
        """Return which indices of an axis stay, bool [size]; None where all do."""
        return self._keeps.get(Axis(value, position))

    def kept(self, value: Value, position: int) -> Array | None:
        """Return the indices of an axis that stay, ascending; None where all do."""
        keep = self.keep(value, position)
        return None if keep is None else np.flatnonzero(keep)

    def size(self, value: Value, position: int) -> int | None:
        """Return the size of an axis afterwards; None where it is not known before either."""
        keep = self.keep(value, position)
        return Axis(value, position).size if keep is None else int(keep.sum())
