"""What a criterion gives each weight, added up for each unit, as shares of a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.passes.prune.importance.base import ConsumerView, Evidence, ProducerView

    Array = np.ndarray[Any, Any]


def of_producers(evidence: Evidence, worth: Callable[[Array], Array]) -> Array:
    """Return the mean share of each unit in the weights that make it; float64 [units].

    Consumers stand in where no weights make the units.

    Args:
        evidence: what is known of the group.
        worth: of weights [indices, weights of one], one number for each index.
    """
    views: Sequence[ProducerView | ConsumerView] = evidence.producers or evidence.consumers
    return mean_shares(evidence.units, [(view.unit, worth(view.weight)) for view in views])


def mean_shares(units: int, parts: Sequence[tuple[Array, Array]]) -> Array:
    """Return the mean over parts of each unit's share of a part; parts that are all 0 are left out.

    Args:
        units: how many there are.
        parts: (unit of each index or -1, worth of each index).
    """
    total = np.zeros(units)
    used = 0
    for unit, worth in parts:
        mine = unit >= 0
        whole = float(worth[mine].sum())
        if whole > 0:
            np.add.at(total, unit[mine], worth[mine] / whole)
            used += 1
    return total / max(used, 1)
