"""Activation-aware magnitude: weights count by how large the inputs are that they meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.passes.prune.importance.shares import mean_shares, of_producers

if TYPE_CHECKING:
    from graphopt.passes.prune.importance.base import ConsumerView, Evidence

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Wanda:
    """Sum of |W_fo| sqrt(E[x_f^2]) over what the consumers do with a unit, as a share of all.

    The score of Sun et al. 2024, "A simple and effective pruning approach for large language
    models", section 3, added up for a unit. Without data every input counts the same.
    """

    name: ClassVar[str] = "wanda"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return the share of each unit; float64 [units]. ``kept`` does not matter."""
        if not evidence.consumers:
            return of_producers(evidence, lambda weight: np.abs(weight).sum(axis=1))
        return mean_shares(evidence.units, [(v.unit, _worth(v)) for v in evidence.consumers])


def _worth(view: ConsumerView) -> Array:
    size: Array = np.abs(view.weight).sum(axis=1)
    if view.second is None:
        return size
    return np.asarray(size * np.sqrt(np.maximum(np.diagonal(view.second), 0.0)))
