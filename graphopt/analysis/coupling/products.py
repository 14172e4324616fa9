"""Which factor of a reshaped axis may lose indices.

An axis that is several run together can lose whole rows along one of them only, or it would no
longer be rectangular. Where just one is free to shrink there is nothing to choose: an image that is
flattened loses channels. Where several are, whole heads are preferred to a few features of all of
them, and else the longest, which gives the finest choice (the channels of a shuffle rather than its
groups). The choice depends on what axes are coupled with, so both sides of an attention, or of a
shuffle, make the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.analysis.coupling.axes import AtomTable, Axis
    from graphopt.analysis.coupling.links import Product

    Array = np.ndarray[Any, Any]

TAKEN = "`{node}` runs it together with another axis, of which rows are removed"
FULL = "`{node}` runs it together with axes that stay"


def settle(
    product: Product,
    table: AtomTable,
    is_frozen: Callable[[Axis], bool],
    rank: Callable[[Axis], tuple[int, int, int]] | None,
) -> Axis | None:
    """Return the factor that may lose indices; None while it is open, when ``rank`` is None.

    Args:
        product: the axes.
        table: their atoms.
        is_frozen: whether all indices of an axis stay.
        rank: how much an axis is preferred, larger is better; None not to choose yet.
    """
    free = [axis for axis in product.factors if axis.size != 1 and not is_frozen(axis)]
    if not free:
        return product.factors[0]
    if len(free) == 1:
        return free[0]
    return max(free, key=rank) if rank is not None else None


def ties(product: Product, factor: Axis, table: AtomTable) -> tuple[Array, Array]:
    """Return the edges between the whole axis and one of its factors."""
    sizes = [axis.size or 1 for axis in product.factors]
    position = product.factors.index(factor)
    inner = int(np.prod(sizes[position + 1 :], dtype=np.int64))
    numbers = np.arange(product.whole.size or 0) // inner % sizes[position]
    return table.atoms(product.whole), table.atoms(factor, numbers)
