"""Random: what every criterion has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from graphopt.passes.prune.importance.base import Evidence

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Random:
    """A seeded order of the units."""

    name: ClassVar[str] = "random"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return different numbers, whose mean is one unit's share; ``kept`` does not matter."""
        order = np.random.default_rng(evidence.seed).permutation(evidence.units)
        return (2.0 * order + 1.0) / max(evidence.units, 1) ** 2
