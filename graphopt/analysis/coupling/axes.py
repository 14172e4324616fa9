"""Axes of tensors, and the atoms that they consist of: one per index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.ir import Value

    Array = np.ndarray[Any, Any]


LONGEST = (1 << 20) - 1
"""Longer axes hold positions, not units; a short file may declare any length."""


class Axis(NamedTuple):
    """One axis of one tensor; ``position`` counts from the front, so it is never negative."""

    value: Value
    position: int

    @property
    def size(self) -> int | None:
        """Number of indices; None where it is not known before the graph runs, or a million."""
        shape = self.value.shape
        if shape is None or self.position >= len(shape):
            return None
        size = shape[self.position]
        return size if isinstance(size, int) and 0 <= size <= LONGEST else None

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"`{self.value.name}` axis {self.position}"


class AtomTable:
    """Numbers the atoms (tensor, axis, index) of a graph.

    Numbers follow the names of tensors, not the order of nodes, so that nothing that is decided by
    them depends on how a graph happens to be sorted.
    """

    def __init__(self, values: Iterable[Value]) -> None:
        self._first: dict[Axis, int] = {}
        self.axes: list[Axis] = []
        self.count = 0
        for value in sorted(set(values), key=lambda value: value.name):
            self._number(value)
        self.visible = len(self.axes)
        self.seen = self.count

    def _number(self, value: Value) -> None:
        for position in range(len(value.shape or ())):
            axis = Axis(value, position)
            if axis.size:
                self._first[axis] = self.count
                self.axes.append(axis)
                self.count += axis.size

    def hide(self, value: Value) -> None:
        """Number a tensor that is in no graph: its axes couple others, and nobody sees them.

        They follow those of the graph, which are the first ``visible`` of ``axes`` and have the
        first ``seen`` atoms.
        """
        self._number(value)

    def __contains__(self, axis: Axis) -> bool:
        """Whether the axis has atoms: its size is known and not zero."""
        return axis in self._first

    def atoms(self, axis: Axis, indices: Array | None = None) -> Array:
        """Return the atoms of an axis, or of some of its indices; int64, in order of index.

        Raises:
            ValueError: the axis has no such index.
        """
        first = self._first[axis]
        assert axis.size is not None
        if indices is None:
            return np.arange(first, first + axis.size)
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < axis.size:
            raise ValueError(f"{axis.label} has the indices 0 to {axis.size - 1}")
        return first + chosen

    def owners(self) -> Array:
        """Return the number in ``axes`` of each atom's axis; int64 [count]."""
        sizes = [axis.size or 0 for axis in self.axes]
        return np.repeat(np.arange(len(self.axes)), sizes)
