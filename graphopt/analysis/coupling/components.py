"""Connected components of a large sparse graph, by arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def connected(labels: Array, first: Array, second: Array) -> Array:
    """Return the smallest member of each vertex's component.

    Hooking and pointer jumping: every root is hung below the smallest root it has an edge to, then
    paths are halved until they are flat; O(log n) rounds.

    Args:
        labels: int64 [n], components found so far: ``labels[i] <= i`` is a root. Not changed.
        first: int64 [edges], one end of each edge.
        second: int64 [edges], the other end.
    """
    labels = labels.copy()
    while True:
        one, other = labels[first], labels[second]
        apart = one != other
        if not apart.any():
            return labels
        one, other = one[apart], other[apart]
        np.minimum.at(labels, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(flat := labels[labels], labels):
            labels = flat
