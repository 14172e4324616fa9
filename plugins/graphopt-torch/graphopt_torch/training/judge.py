"""How far the student is from its teacher on samples that it is not trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from graphopt_torch.execution import Program
    from graphopt_torch.samples import TrainingSamples
    from graphopt_torch.teaching import Objective

    Array = np.ndarray[Any, Any]
    Tensors = Mapping[str, Tensor]

_KEPT = 256 << 20
"""Bytes of the teacher's outputs that are kept; more are computed anew each time."""


def mean(each: Array) -> float:
    """Return the mean of divergences; infinite where one is not finite."""
    found = float(each.mean())
    return found if math.isfinite(found) else math.inf


def is_surely_less(found: Array, than: Array) -> bool:
    """Whether divergences of the same samples have become less, by more than chance explains.

    The mean of the differences has to be one standard error below zero: of many states the best is
    looked for, and on few samples some state always looks better than it is.
    """
    apart = found - than
    if not np.isfinite(apart).all():
        return mean(found) < mean(than)
    error = float(apart.std(ddof=1)) / math.sqrt(len(apart)) if len(apart) > 1 else 0.0
    return float(apart.mean()) < -error


class Judge:
    """The held-out samples with what the teacher says of them.

    Args:
        teacher: is asked once, if memory allows.
        samples: has the held-out samples.
        objective: says what is judged.
        size: samples of a batch.
        device: where both models run.
    """

    def __init__(
        self,
        teacher: Program,
        samples: TrainingSamples,
        objective: Objective,
        size: int,
        device: str = "cpu",
    ) -> None:
        self._teacher = teacher
        self._samples = samples
        self._objective = objective
        self._size = size
        self._device = device
        self._kept: list[Tensors] = []
        self._left = _KEPT

    def divergence(self, run: Callable[[Tensors], Tensors]) -> float:
        """Return the mean divergence per held-out sample of what ``run`` gives for some inputs."""
        return mean(self.each(run))

    def each(self, run: Callable[[Tensors], Tensors]) -> Array:
        """Return the divergence of each held-out sample, float64 [samples].

        It is at least 0, and infinite where an output is not finite.
        """
        found = []
        with torch.no_grad():
            for number, feed in enumerate(self._feeds()):
                apart = self._objective.divergences(self._taught(number, feed), run(feed))
                found.append(apart.cpu().numpy())
        return np.concatenate(found)

    def _feeds(self) -> Iterator[Tensors]:
        for batch in self._samples.held_out_batches(self._size):
            for feed in self._samples.feeds(batch):
                yield {name: values.to(self._device) for name, values in feed.items()}

    def _taught(self, number: int, feed: Tensors) -> Tensors:
        """Return the teacher's outputs for a feed, by its number."""
        if number < len(self._kept):
            return self._kept[number]
        made = self._teacher.run(feed, list(self._objective.judged))
        size = sum(v.nbytes for v in made.values())
        if number == len(self._kept) and size <= self._left:
            self._kept.append(made)
            self._left -= size
        return made
