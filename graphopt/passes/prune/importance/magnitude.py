"""Magnitude: units whose own weights are small matter little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.passes.prune.importance.shares import of_producers

if TYPE_CHECKING:
    from graphopt.passes.prune.importance.base import Evidence

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class MagnitudeL1:
    """Sum of the absolute weights that make a unit, as a share of all (Li et al. 2017).

    The mean over all operators that make the units; of those that read them where none does.
    """

    name: ClassVar[str] = "l1"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return the share of each unit; float64 [units]. ``kept`` does not matter."""
        return of_producers(evidence, lambda weight: np.abs(weight).sum(axis=1))


@dataclass(frozen=True)
class MagnitudeL2:
    """Euclidean norm of the weights that make a unit, as a share of the sum of all norms.

    The mean over all operators that make the units; of those that read them where none does.
    """

    name: ClassVar[str] = "l2"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return the share of each unit; float64 [units]. ``kept`` does not matter."""
        return of_producers(evidence, lambda weight: np.sqrt(np.square(weight).sum(axis=1)))
