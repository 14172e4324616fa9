"""Which factor of a reshaped axis may lose indices.

An axis that is several run together can lose whole rows along one of them only, or it would no
longer be rectangular. Where just one is free to shrink there is nothing to choose: an image that is
flattened loses channels. Where several are, whole heads are preferred to a few features of all of
them, then what weights make (the keys that several heads share rather than their copies), and else
the longest, which gives the finest choice (the channels of a shuffle rather than its groups). What
a choice decides is decided before the next is made, so both sides of an attention, or of a shuffle,
make the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from graphopt.analysis.coupling.axes import AtomTable, Axis
    from graphopt.analysis.coupling.links import Product

    Array = np.ndarray[Any, Any]

TAKEN = "`{node}` runs it together with another axis, of which rows are removed"
FULL = "`{node}` runs it together with axes that stay"


def sequence(product: Product) -> tuple[tuple[str, int], ...]:
    """Return what products are sorted by: names, never the order of nodes."""
    return tuple((axis.value.name, axis.position) for axis in (product.whole, *product.factors))


def free_factors(product: Product, table: AtomTable, frozen: Array) -> list[Axis]:
    """Return the factors of which something may still go; ``frozen`` is bool [atoms]."""
    free = (axis for axis in product.factors if axis.size != 1)
    return [axis for axis in free if not frozen[table.atoms(axis)].all()]


class Choices:
    """Factors that are chosen at once, because none of the choices decides another.

    A product that shares a component with one that is already decided waits, unless both treat it
    alike: what was just decided may leave it no choice, or a better one.

    Args:
        table: atoms of axes.
        labels: component of each atom. int64 [atoms].
    """

    def __init__(self, table: AtomTable, labels: Array) -> None:
        self._table = table
        self._labels = labels
        self._shrinks: set[int] = set()
        self._stays: set[int] = set()
        self._wholes: set[int] = set()
        self.taken: dict[Product, Axis] = {}

    def offer(self, product: Product, factor: Axis) -> None:
        """Choose a factor, or leave the product for later."""
        whole, chosen = self._parts(product.whole), self._parts(factor)
        others = set().union(*(self._parts(a) for a in product.factors if a != factor))
        decided = self._shrinks | self._stays | self._wholes
        if whole & decided or chosen & (self._stays | self._wholes):
            return
        if others & (self._shrinks | self._wholes):
            return
        self.taken[product] = factor
        self._wholes |= whole
        self._shrinks |= chosen
        self._stays |= others

    def _parts(self, axis: Axis) -> set[int]:
        return set(np.unique(self._labels[self._table.atoms(axis)]).tolist())


def ties(product: Product, factor: Axis, table: AtomTable) -> tuple[Array, Array]:
    """Return the edges between the whole axis and one of its factors."""
    sizes = [axis.size or 1 for axis in product.factors]
    position = product.factors.index(factor)
    inner = int(np.prod(sizes[position + 1 :], dtype=np.int64))
    numbers = np.arange(product.whole.size or 0) // inner % sizes[position]
    return table.atoms(product.whole), table.atoms(factor, numbers)
