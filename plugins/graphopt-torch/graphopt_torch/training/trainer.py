"""One training: its steps, and the state that it can be taken up again from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from graphopt_torch.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from graphopt_torch.execution import Program
    from graphopt_torch.quantization import TrainableWeights
    from graphopt_torch.samples import TrainingSamples
    from graphopt_torch.teaching import Objective
    from graphopt_torch.training.schedule import Schedule

    Tensors = Mapping[str, Tensor]
    Tap = Callable[[Tensor], Tensor]
    Regularise = Callable[[int], Tensor]


class Trainer:
    """Takes steps towards an objective.

    Args:
        student: what is trained.
        weights: its parameters.
        teacher: what it learns from.
        samples: what both are run on.
        objective: what is minimised.
        schedule: how fast.
        device: "cpu" or "cuda".
        mixed: whether products are of half precision; on a GPU.
        regularise: is added to the loss of a step, by its number.
        taps: applied to tensors of the student.
    """

    def __init__(
        self,
        student: Program,
        weights: TrainableWeights,
        teacher: Program,
        samples: TrainingSamples,
        objective: Objective,
        schedule: Schedule,
        *,
        device: str = "cpu",
        mixed: bool = False,
        regularise: Regularise | None = None,
        taps: Mapping[str, Tap] | None = None,
    ) -> None:
        self.schedule = schedule
        self.learner = Learner(weights.groups(), schedule)
        self._student, self._weights, self._teacher = student, weights, teacher
        self._samples, self._objective = samples, objective
        self._device, self._mixed = device, mixed
        self._regularise, self._taps = regularise, taps
        self._batches: Iterator[dict[str, Tensor]] | None = None
        self._next = -1

    def differentiate(self, number: int) -> float:
        """Put the gradients of a step, counted from 0, into the parameters; return the loss."""
        batch = self._batch(number)
        feeds = list(self._samples.feeds(batch))
        self.learner.clear()
        total = 0.0
        for feed in feeds:
            loss = self._loss(feed, number) / len(feeds)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if self._regularise is not None:
            self._regularise(number).backward()  # type: ignore[no-untyped-call]
        return total

    def run(self, feed: Tensors) -> dict[str, Tensor]:
        """Return the outputs that are judged, of the student as it is."""
        names = list(self._objective.judged)
        return self._student.run(feed, names, values=self._weights.values(), taps=self._taps)

    def _loss(self, feed: Tensors, number: int) -> Tensor:
        given = {name: values.to(self._device) for name, values in feed.items()}
        wanted, needed = self._objective.wanted
        with torch.autocast(self._device, torch.bfloat16, enabled=self._mixed):
            with torch.no_grad():
                taught = self._teacher.run(given, wanted)
            values = self._weights.values()
            found = self._student.run(given, needed, values=values, taps=self._taps)
        return self._objective.loss(taught, found, self.schedule.features_at(number))

    def _batch(self, number: int) -> dict[str, Tensor]:
        if self._batches is None or number != self._next:
            how = self.schedule
            self._batches = self._samples.batches(how.batch, how.seed, number, how.augment)
        self._next = number + 1
        return next(self._batches)
