"""Geometric median: units that the others can stand in for matter little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.passes.prune.importance.shares import mean_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.passes.prune.importance.base import ConsumerView, Evidence, ProducerView

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Fpgm:
    """Sum of the distances of a unit's weights to those of the units that are left.

    The smaller, the closer to their geometric median (He et al. 2019, "Filter pruning via geometric
    median"); as a share of the sum of all, the mean over the operators that make the units.
    """

    name: ClassVar[str] = "fpgm"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return the share of each unit; float64 [units]. ``kept``: to whom distances count."""
        views: Sequence[ProducerView | ConsumerView] = evidence.producers or evidence.consumers
        units = np.arange(evidence.units)
        parts = [(units, _distances(_vectors(view, evidence.units), kept)) for view in views]
        return mean_shares(evidence.units, parts)


def _vectors(view: ProducerView | ConsumerView, units: int) -> Array:
    """Return all weights of each unit in a row, float64 [units, weights]; shorter ones end in 0."""
    counts = np.bincount(view.unit[view.unit >= 0], minlength=units)
    width = view.weight.shape[1]
    vectors = np.zeros((units, max(int(counts.max(initial=0)), 1), width))
    order = np.argsort(view.unit, kind="stable")
    order = order[view.unit[order] >= 0]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    number = view.unit[order]
    vectors[number, np.arange(order.size) - starts[number]] = view.weight[order]
    return vectors.reshape(units, -1)


def _distances(vectors: Array, kept: Array) -> Array:
    power = np.square(vectors).sum(axis=1)
    squared = power[:, None] + power[None, kept] - 2.0 * (vectors @ vectors[kept].T)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)).sum(axis=1))
