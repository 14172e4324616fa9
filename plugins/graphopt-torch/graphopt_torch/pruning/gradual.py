"""Train while units go: a step of closing gates, some steps of training, and again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt_torch.pruning.compensation import compensate, readers_of
from graphopt_torch.pruning.group_lasso import group_lasso
from graphopt_torch.pruning.importance import unit_scores
from graphopt_torch.pruning.lesson import SLOW, probes
from graphopt_torch.pruning.saved import prefixed, under
from graphopt_torch.training.schedule import Schedule
from graphopt_torch.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from graphopt_torch.pruning.closing import Closing
    from graphopt_torch.pruning.gates import Gates
    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.school import School

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pace:
    """How fast and how long.

    Args:
        steps: of training.
        rate: of Adam.
        lasso: weight of the group lasso, for each unit that is to go next.
        probes: batches that units are scored on before each removal.
    """

    steps: int
    rate: float
    lasso: float = 1e-3
    probes: int = 4


class Gradual:
    """A training during which gates close.

    Removals are spread evenly over the steps, the first before any of them.

    Args:
        lesson: what is learned; its weights are changed in place.
        gates: of the student; changed in place.
        closing: says what goes.
        pace: how fast and how long.
    """

    def __init__(self, lesson: School, gates: Gates, closing: Closing, pace: Pace) -> None:
        self._lesson, self._gates, self._closing, self._pace = lesson, gates, closing, pace
        self._marked: dict[str, Array] = {}
        self._readers = readers_of(gates.sites, lesson.weights.parameters)
        self._due = {round(i * pace.steps / closing.removals) for i in range(closing.removals)}
        self._trainer = Trainer(
            lesson.student,
            lesson.weights,
            lesson.teacher,
            lesson.samples,
            lesson.objective,
            Schedule(
                pace.steps,
                pace.rate,
                lesson.batch,
                lesson.seed,
                lesson.augment,
                factors=SLOW,
            ),
            device=lesson.device,
            regularise=self._regularise if pace.lasso else None,
            taps=gates.taps,
        )

    def run(
        self,
        progress: Callable[[int, int, str], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Take all steps, or those that are left of an interrupted training.

        Args:
            progress: is told (steps done, steps in all, what there is to say).
            checkpoint: is taken up where there is one, and written now and then.
        """
        for step in range(self._taken_up(checkpoint), self._pace.steps):
            if step in self._due and not self._closing.is_done:
                self._remove()
            loss = taken_step(self._trainer, step)
            if progress is not None:
                told = f"loss {loss:.3g}, {self._closing.metric} {self._closing.figure:.4g}"
                progress(step + 1, self._pace.steps, told)
            if checkpoint is not None:
                checkpoint.save_if_due(partial(self._state, step + 1))
        while not self._closing.is_done:
            self._remove()

    def _state(self, done: int) -> dict[str, Array]:
        return {
            "steps": np.array(self._pace.steps),
            "done": np.array(done),
            **prefixed("learner", self._trainer.learner.state()),
            **prefixed("closing", self._closing.state()),
        }

    def _taken_up(self, checkpoint: Checkpoint | None) -> int:
        """Return the step to begin with, in the state that was saved before it."""
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None or int(saved.get("steps", -1)) != self._pace.steps:
            return 0
        self._trainer.learner.load(under("learner", saved))
        self._closing.load(under("closing", saved))
        self._gates.close(self._closing.keeps)
        self._marked = self._closing.marked()
        return int(saved["done"])

    def _remove(self) -> None:
        """Take one step of closing, and look ahead at what would go next."""
        lesson, closing = self._lesson, self._closing
        seed = lesson.seed + 1 + closing.done
        feeds = probes(lesson, self._pace.probes, seed)
        values = {name: each.detach() for name, each in lesson.weights.values().items()}
        scores = unit_scores(lesson.student, self._gates, feeds, values, seed)
        before = closing.keeps
        closing.advance(scores)
        compensate(
            self._readers,
            {name: keep & ~closing.keeps[name] for name, keep in before.items()},
            lesson.student,
            probes(lesson, self._pace.probes, seed),
            values,
            self._gates.taps,
            lesson.weights.parameters,
        )
        self._gates.close(closing.keeps)
        self._marked = closing.marked()

    def _regularise(self, step: int) -> torch.Tensor:
        del step
        weights = self._lesson.weights.parameters
        penalty = self._pace.lasso * group_lasso(self._gates.sites, self._marked, weights)
        # The trainer asks for gradients, of which nothing marked has any.
        return penalty if penalty.requires_grad else penalty.requires_grad_()


def taken_step(trainer: Trainer, number: int) -> float:
    """Take a step, counted from 0, unless its loss is not finite; return the loss."""
    loss = trainer.differentiate(number)
    if math.isfinite(loss):
        trainer.learner.learn(number)
    return loss
