"""Which samples are in which batch: a pure function of seed and step, so that training resumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.dataset import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_ORDER, _ALTERATION = 0, 1
"""What random numbers are for, so that no two uses share them."""


def held_out_samples(total: int, share: float) -> tuple[int, ...]:
    """Return which of ``total`` samples are kept for judging, ascending.

    They are spread evenly, so that data that come class by class have all classes on both sides,
    and without a period. At least one is kept where there are two; a single one is on both sides.

    Args:
        total: samples, at least 1.
        share: of them, 0 to 1; at least one sample is left to train on.
    """
    if total < 2:
        return (0,)
    count = min(max(1, round(share * total)), total - 1)
    return tuple(spread(total, count))


@dataclass(frozen=True)
class Schedule:
    """Endless batches over groups of samples that fit together.

    In an epoch every sample of every group is in exactly one batch. The batches of a group differ
    in size by one sample at most, and none is larger than ``size``; batches of all groups come in
    one random order, which is another in every epoch.

    Args:
        groups: sample numbers, one row for each group.
        size: most samples in a batch, at least 1.
        seed: of the order.
    """

    groups: tuple[tuple[int, ...], ...]
    size: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return sum(self._parts(group) for group in self.groups)

    def epoch(self, number: int) -> list[Array]:
        """Return the batches of an epoch, in order."""
        random = np.random.default_rng((self.seed, _ORDER, number))
        batches: list[Array] = []
        for group in self.groups:
            shuffled = np.asarray(group)[random.permutation(len(group))]
            batches += np.array_split(shuffled, self._parts(group))
        return [batches[position] for position in random.permutation(len(batches))]

    def _parts(self, group: Sequence[int]) -> int:
        return -(-len(group) // self.size)


def alteration(seed: int, step: int) -> np.random.Generator:
    """Return the random numbers that alter the batch of a step."""
    return np.random.default_rng((seed, _ALTERATION, step))
