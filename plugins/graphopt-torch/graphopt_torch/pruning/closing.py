"""Close gates in steps: each time a little more goes, by what units are worth by then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import PassError
from graphopt_torch.pruning.choose_widths import choose_widths
from graphopt_torch.pruning.schedule import cubic_share
from graphopt_torch.pruning.sites import kept_units
from graphopt_torch.pruning.terms import full_widths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.passes.prune.goal import Metric
    from graphopt_torch.pruning.prices import Prices
    from graphopt_torch.pruning.terms import Terms

    Array = np.ndarray[Any, Any]

_MEMORY = 0.5
"""Share of what units were worth so far that counts beside what they are worth now."""


@dataclass
class Closing:
    """Which units are still there, and what is to go.

    Args:
        prices: of the graph.
        metric: which figure is to shrink.
        limit: what it is to become at most, in its unit.
        removals: in how many steps.
    """

    prices: Prices
    metric: Metric
    limit: float
    removals: int
    done: int = 0
    widths: dict[str, int] = field(default_factory=dict)
    keeps: dict[str, Array] = field(default_factory=dict)
    scores: dict[str, Array] = field(default_factory=dict)
    _terms: Terms | None = None

    def __post_init__(self) -> None:
        self.widths = full_widths(self.prices.sites)
        self.keeps = {site.name: np.ones(site.size, dtype=bool) for site in self.prices.sites}
        self.start = self.prices.figure(self.metric, self.widths)
        if self.start > self.limit:
            self._terms = self.prices.terms(self.metric)
            # Before anything is trained: a goal that cannot be reached is refused.
            self._chosen(self._equal(), self.limit)

    @property
    def is_done(self) -> bool:
        """Whether nothing more is to go."""
        return self.start <= self.limit or self.done >= self.removals

    def advance(self, scores: Mapping[str, Array]) -> None:
        """Take the next step: close the units that are worth least for what they save.

        Args:
            scores: what each unit is worth now, by group; float64 [units].
        """
        self.scores = {
            name: found + _MEMORY * self.scores.get(name, np.zeros_like(found))
            for name, found in scores.items()
        }
        self.done += 1
        self.widths = self._chosen(self._standing(), self._limit(self.done))
        self.keeps = self._kept(self.widths)

    def marked(self) -> dict[str, Array]:
        """Return the units that would go next as things stand, by group; bool [units]."""
        if self.is_done:
            return {}
        try:
            widths = self._chosen(self._standing(), self._limit(self.done + 1))
        except PassError:
            return {}
        after = self._kept(widths)
        return {name: keep & ~after[name] for name, keep in self.keeps.items()}

    def state(self) -> dict[str, Array]:
        """Return all that ``load`` needs, by name."""
        return {
            "done": np.array(self.done),
            **{f"keep {name}": keep for name, keep in self.keeps.items()},
            **{f"score {name}": score for name, score in self.scores.items()},
        }

    def load(self, state: Mapping[str, Array]) -> None:
        """Take up what ``state`` returned."""
        self.done = int(state["done"])
        self.keeps = {name: state[f"keep {name}"].astype(bool) for name in self.keeps}
        self.widths = {name: int(keep.sum()) for name, keep in self.keeps.items()}
        scores = {name: state.get(f"score {name}") for name in self.keeps}
        self.scores = {name: score for name, score in scores.items() if score is not None}

    @property
    def figure(self) -> float:
        """The figure of the model with what is left."""
        return self.prices.figure(self.metric, self.widths)

    def _limit(self, done: int) -> float:
        share = cubic_share(done, self.removals)
        return self.start - share * (self.start - self.limit)

    def _chosen(self, scores: Mapping[str, Array], limit: float) -> dict[str, int]:
        assert self._terms is not None
        return choose_widths(self.prices, self.metric, self._terms, scores, self.widths, limit)

    def _kept(self, widths: Mapping[str, int]) -> dict[str, Array]:
        standing = self._standing()
        return {s.name: kept_units(s, standing[s.name], widths[s.name]) for s in self.prices.sites}

    def _standing(self) -> dict[str, Array]:
        """Return the scores, where what has gone is worth least."""
        return {
            name: np.where(self.keeps[name], found, -1.0) for name, found in self.scores.items()
        }

    def _equal(self) -> dict[str, Array]:
        return {site.name: np.ones(site.size) for site in self.prices.sites}
