"""The fastest choice of precisions whose real model keeps a limit.

Noises add up only about, and calibration samples are not the held-out ones. So the real model of
each choice is made and compared: the noises of the kernels that it quantizes are scaled so that
their sum is what was found, and the next choice is the fastest within the limit by what is known
then. At the end single steps from the best choice are tried: all their kernels together in the
model with switches, and those that are likely to hold as real models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from graphopt.planner.assignment.assigner import from_db

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.planner.assignment.assigner import Assigner, Choice

_CHECKS = 7
_POLISHING = 8
"""Real models that are made at most, by the sum of noises and a step away from the best."""
_JOINT = 48
"""Steps whose noise is measured with all kernels together before a real model is made."""
_LOOSER = 1.5
"""A sum of noises that is this much over the limit may still belong to a model that keeps it."""
_DOUBT = 1.1
"""So may a noise of kernels together, on other samples."""
_HALF = 2.0
_LARGEST = 100.0
"""How much one model may change what is known of its kernels."""


class Checked(Protocol):
    """A real model that was compared with the limit."""

    @property
    def holds(self) -> bool:
        """Whether it keeps the limit."""
        ...

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio of its outputs on held-out samples."""
        ...


T = TypeVar("T", bound=Checked)


@dataclass
class LimitSearch(Generic[T]):
    """Choices, each by what the models of those before have shown.

    Args:
        assigner: finds the fastest choice within a bound.
        check: makes the real model of a choice and compares it with the limit.
        limit_db: the limit, where it is one on the signal-to-noise ratio; None for a metric, whose
            limit in noise is found by bisection.
    """

    assigner: Assigner
    check: Callable[[Choice], T]
    limit_db: float | None
    held: list[T] = field(default_factory=list)
    _seen: set[frozenset[tuple[str, str]]] = field(default_factory=set)
    _kept: float = 0.0
    """The largest noise of a model that held, where the limit is a metric's."""
    _missed: float = math.inf
    """The smallest noise of one that did not."""
    _best: Choice | None = None
    """The fastest that held; the least noisy one where none did."""
    _ratios: list[float] = field(default_factory=list)
    """Noise of real models over that of their kernels together on calibration samples."""

    def run(self) -> list[T]:
        """Return the models that held, in the order in which they were made."""
        self.assigner.forget()
        fastest = self.assigner.choice(self.assigner.sweep.corners[0].chosen)
        if self._tried(fastest).holds or not fastest.noise > 0:
            return self.held
        for _ in range(_CHECKS):
            choice = self.assigner.within(self._bound())
            if choice is None or not self._is_new(choice):
                break
            self._tried(choice)
        self._polish()
        return self.held

    def _polish(self) -> None:
        """Try what is a step away from the best model so far: noises do not quite add up."""
        left = _POLISHING
        while left > 0 and self._best is not None and self._ratios:
            start = self._best
            for choice in self._promising(start)[:left]:
                left -= 1
                if self._tried(choice).holds:
                    break
            if self._best is start:
                break

    def _promising(self, start: Choice) -> list[Choice]:
        """Return the steps that are faster and should hold, by their kernels together."""
        joint = self.assigner.joint_noise
        # Where nothing held yet, the few kernels that make least noise are the last resort.
        starts = [start] if self.held else [start, self.assigner.quietest]
        bound = self._bound() * _LOOSER
        near = {c.chosen: c for each in starts for c in self.assigner.around(each, bound)}
        found = [c for c in near.values() if self._is_new(c)]
        found.sort(key=lambda c: (c.noise > bound, c.time_us, c.chosen))
        usual = sorted(self._ratios)[len(self._ratios) // 4] if self.held else 1.0
        limit = self._bound() * _DOUBT / usual
        likely = (c for c in found[:_JOINT] if joint(c) <= limit)
        return sorted(likely, key=lambda c: (c.time_us, c.chosen))

    def _is_new(self, choice: Choice) -> bool:
        key = frozenset(choice.labels.items())
        slower = self._best is not None and self.held and choice.time_us >= self._best.time_us
        return choice.noise > 0 and key not in self._seen and not slower

    def _tried(self, choice: Choice) -> T:
        self._seen.add(frozenset(choice.labels.items()))
        found = self.check(choice)
        noise = from_db(found.snr_db) if math.isfinite(found.snr_db) else 0.0
        if noise > 0 and choice.noise > 0:
            factor = min(max(noise / choice.noise, 1 / _LARGEST), _LARGEST)
            self.assigner.correct(choice, factor)
            self._ratios.append(noise / max(self.assigner.joint_noise(choice), noise / _LARGEST))
        if found.holds:
            self.held.append(found)
            self._best = choice
            self._kept = max(self._kept, noise)
        else:
            if not self.held and noise < self._missed:
                self._best = choice
            self._missed = min(self._missed, noise)
        return found

    def _bound(self) -> float:
        """Return the noise that the next choice may have by what is known."""
        if self.limit_db is not None:
            return from_db(self.limit_db)
        if not self._kept:
            return self._missed / _HALF
        return math.sqrt(self._kept * max(self._missed, self._kept))
