"""Train weights, widths and bits together, under what the budget makes them cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from graphopt_torch.pruning.bit_choice import BitChoice, JointWeights
from graphopt_torch.pruning.expected_figure import expected_figure
from graphopt_torch.pruning.gradual import taken_step
from graphopt_torch.pruning.lesson import SLOW
from graphopt_torch.pruning.saved import prefixed, under
from graphopt_torch.training.schedule import Schedule
from graphopt_torch.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.passes.prune.goal import Metric
    from graphopt_torch.pruning.lagrangian import Multiplier
    from graphopt_torch.pruning.relaxed_gates import RelaxedGates
    from graphopt_torch.pruning.terms import Terms
    from graphopt_torch.quantization import TrainableWeights
    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.school import School

    Array = np.ndarray[Any, Any]

_WAY = 20.0
"""How far scores of widths and bits may go, in logits, at their highest rate all the time."""
_FASTEST = 0.2
"""Most that they move in a step."""
_HOT, _COLD = 1.0, 0.1
_NOISE = 0.5


@dataclass
class Budgeted:
    """A figure that is to stay within a limit.

    Args:
        metric: which.
        terms: of it.
        price: what going beyond costs.
    """

    metric: Metric
    terms: Terms
    price: Multiplier


class Searching:
    """A training in which widths and bits are parameters too.

    loss + sum over budgets of m c + r/2 max(c, 0)^2, c = expected figure / limit - 1. The
    temperature of the probabilities falls from 1 to 0.1, and the noise on widths to nothing.

    Args:
        lesson: what is learned; its weights are changed in place.
        gates: probabilities of widths.
        bits: probabilities of bits.
        budgets: what is to be kept to.
        steps: of training.
        rate: of Adam.
    """

    def __init__(
        self,
        lesson: School,
        gates: RelaxedGates,
        bits: BitChoice,
        budgets: Sequence[Budgeted],
        steps: int,
        rate: float,
    ) -> None:
        self._gates, self._bits, self._budgets = gates, bits, tuple(budgets)
        self._steps, self._seed = steps, lesson.seed
        quick = min(_FASTEST, _WAY / max(1, steps)) / rate
        factors = {**SLOW, "widths": quick, "bits": quick}
        weights = cast("TrainableWeights", JointWeights(lesson.weights, gates.logits, bits))
        schedule = Schedule(steps, rate, lesson.batch, lesson.seed, lesson.augment, factors=factors)
        self._trainer = Trainer(
            lesson.student,
            weights,
            lesson.teacher,
            lesson.samples,
            lesson.objective,
            schedule,
            device=lesson.device,
            regularise=self._penalty,
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
        for step in range(self._taken_up(checkpoint), self._steps):
            self._cool(step)
            loss = taken_step(self._trainer, step)
            shares = self._update()
            if progress is not None:
                told = ", ".join(
                    f"{b.metric} {s:.2f}" for b, s in zip(self._budgets, shares, strict=True)
                )
                progress(step + 1, self._steps, f"loss {loss:.3g}, of limits: {told}")
            if checkpoint is not None:
                checkpoint.save_if_due(partial(self._state, step + 1))

    def _state(self, done: int) -> dict[str, Array]:
        return {
            "steps": np.array(self._steps),
            "done": np.array(done),
            "prices": np.array([budget.price.value for budget in self._budgets]),
            **prefixed("learner", self._trainer.learner.state()),
        }

    def _taken_up(self, checkpoint: Checkpoint | None) -> int:
        """Return the step to begin with, in the state that was saved before it."""
        saved = checkpoint.load() if checkpoint is not None else None
        if saved is None or int(saved.get("steps", -1)) != self._steps:
            return 0
        self._trainer.learner.load(under("learner", saved))
        for budget, price in zip(self._budgets, saved["prices"], strict=True):
            budget.price.value = float(price)
        return int(saved["done"])

    def figures(self) -> list[torch.Tensor]:
        """Return the expected figure of each budget."""
        widths, shares = self._gates.expected(), self._bits.shares()
        sized = [shares if b.metric == "size" else {} for b in self._budgets]
        pairs = zip(self._budgets, sized, strict=True)
        return [expected_figure(budget.terms, widths, each) for budget, each in pairs]

    def _cool(self, step: int) -> None:
        done = step / max(1, self._steps - 1)
        temperature = _HOT * (_COLD / _HOT) ** done
        self._gates.temperature = self._bits.temperature = temperature
        self._gates.draw(self._seed + step, _NOISE * (1.0 - done))

    def _penalty(self, step: int) -> torch.Tensor:
        del step
        pairs = zip(self._budgets, self.figures(), strict=True)
        return torch.stack([budget.price.penalty(figure) for budget, figure in pairs]).sum()

    def _update(self) -> list[float]:
        """Correct the prices; return the figures as shares of their limits."""
        with torch.no_grad():
            found = [float(figure) for figure in self.figures()]
        for budget, figure in zip(self._budgets, found, strict=True):
            budget.price.update(figure)
        pairs = zip(self._budgets, found, strict=True)
        return [figure / budget.price.limit for budget, figure in pairs]
