"""The loop: steps, judgements, the best that was seen, and checkpoints in between."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt_torch.training.judge import is_surely_less, mean
from graphopt_torch.training.learner import copies, put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.judge import Judge
    from graphopt_torch.training.trainer import Trainer

    Array = np.ndarray[Any, Any]
    Tell = Callable[[int, int, str], None]

_PATIENCE = 5
"""Judgements of the sixteen that may pass without a better one in the second half, where the rate
falls and everything gets better that will."""
_HOPELESS = 2.0
"""Divergence, over that before the first step, from which it will not come down any more."""
_SMOOTHING = 0.95
"""Decay of the loss that is shown."""


@dataclass(frozen=True)
class Judgement:
    """What was seen on the held-out samples.

    Args:
        steps: that had been taken.
        loss: smoothed, on the samples that are trained on; 0 before the first step.
        divergence: of the averaged weights, on the held-out samples.
    """

    steps: int
    loss: float
    divergence: float


@dataclass(frozen=True)
class Trained:
    """What came of a training; the weights are the best that were judged.

    Args:
        steps: that were taken.
        seconds: that they took, in this process.
        before: divergence on the held-out samples before the first step.
        after: that of the weights as they are now, at most that before.
        history: all judgements, the one before the first step among them.
        is_better: whether the best of them is surely better than what came in; otherwise the
            weights are those that came in.
    """

    steps: int
    seconds: float
    before: float
    after: float
    history: tuple[Judgement, ...] = ()
    is_better: bool = False


def train(
    trainer: Trainer,
    judge: Judge,
    *,
    checkpoint: Checkpoint | None = None,
    progress: Tell | None = None,
) -> Trained:
    """Train the weights and leave the best ones in them; never worse ones than those given.

    What is judged, and returned, is the moving average of the weights. On the CPU, inside
    ``reproducible``, the result depends on the arguments alone, however often it was interrupted.

    Args:
        trainer: takes the steps of its schedule; its weights are changed in place.
        judge: has the samples that are not trained on.
        checkpoint: taken up where there is one, and written now and then and when interrupted.
        progress: is told after each step (steps done, steps in all, loss and divergence as text).
    """
    return _Loop(trainer, judge, checkpoint, progress).run()


@dataclass
class _Loop:
    """A training in progress."""

    trainer: Trainer
    judge: Judge
    checkpoint: Checkpoint | None
    progress: Tell | None
    done: int = 0
    loss: float = 0.0
    history: list[Judgement] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)
    best: list[Tensor] = field(default_factory=list)
    first_each: Array = field(default_factory=lambda: np.zeros(0))
    best_each: Array = field(default_factory=lambda: np.zeros(0))
    between: bool = True
    """Whether weights, optimiser and history are those of one step, and can be taken up again."""

    def run(self) -> Trained:
        started = time.monotonic()
        self.given = copies(self.trainer.learner.parameters)
        self._take_up()
        if not self.history:
            self._judge()
        try:
            while self.done < self.trainer.schedule.steps and not self._is_over():
                self._step()
        except KeyboardInterrupt:
            if self.between and self.checkpoint is not None:
                self.checkpoint.save(self._state())
            raise
        better = is_surely_less(self.best_each, self.first_each)
        put(self.best if better else self.given, self.trainer.learner.parameters)
        before, seconds = mean(self.first_each), time.monotonic() - started
        after = mean(self.best_each) if better else before
        return Trained(self.done, seconds, before, after, tuple(self.history), better)

    def _step(self) -> None:
        found = self.trainer.differentiate(self.done)
        self.between = False
        if math.isfinite(found):
            self.trainer.learner.learn(self.done)
        self.done += 1
        self.loss = found if self.done == 1 else _SMOOTHING * self.loss + (1 - _SMOOTHING) * found
        if self.trainer.schedule.is_judged(self.done):
            self._judge()
        self.between = True
        if self.progress is not None:
            last = self.history[-1].divergence
            text = f"loss {self.loss:.3g}, diverges by {last:.3g}"
            self.progress(self.done, self.trainer.schedule.steps, text)
        if self.checkpoint is not None:
            self.checkpoint.save_if_due(self._state)

    def _judge(self) -> None:
        learner = self.trainer.learner
        with learner.averaged():
            each = self.judge.each(self.trainer.run)
        found = mean(each)
        if not self.history:
            self.first_each = each
        if not self.history or found < min(j.divergence for j in self.history):
            self.best, self.best_each = copies(learner.average), each
        self.history.append(Judgement(self.done, self.loss, found))

    def _is_over(self) -> bool:
        """Whether more steps are in vain: the loss is no number, or nothing got better for long."""
        if not math.isfinite(self.loss):
            return True
        seen = [judgement.divergence for judgement in self.history]
        best = seen.index(min(seen))
        early = sum(2 * each.steps < self.trainer.schedule.steps for each in self.history)
        late = len(seen) - max(best + 1, early) >= _PATIENCE
        return late and (best > 0 or not seen[-1] < _HOPELESS * seen[0])

    def _state(self) -> dict[str, Array]:
        told = [(j.steps, j.loss, j.divergence) for j in self.history]
        return {
            "done": np.array(self.done),
            "loss": np.array(self.loss),
            "history": np.array(told, dtype=np.float64),
            "first each": self.first_each,
            "best each": self.best_each,
            **{f"best {n}": values.cpu().numpy() for n, values in enumerate(self.best)},
            **{f"learner {n}": values for n, values in self.trainer.learner.state().items()},
        }

    def _take_up(self) -> None:
        """Go on from the checkpoint where there is one that fits."""
        saved = self.checkpoint.load() if self.checkpoint is not None else None
        if saved is None:
            return
        learner = self.trainer.learner
        given = learner.state()
        try:
            self._load(saved)
        except (KeyError, ValueError, RuntimeError, IndexError):
            learner.load(given)
            self.done, self.loss, self.history, self.best = 0, 0.0, [], []

    def _load(self, saved: Mapping[str, Array]) -> None:
        import torch

        learner = self.trainer.learner
        prefix = "learner "
        learner.load({n[len(prefix) :]: v for n, v in saved.items() if n.startswith(prefix)})
        self.best = copies(learner.average)
        put([torch.from_numpy(saved[f"best {n}"]) for n in range(len(self.best))], self.best)
        self.first_each, self.best_each = saved["first each"], saved["best each"]
        told = saved["history"]
        self.history = [Judgement(int(s), float(x), float(d)) for s, x, d in told]
        self.done, self.loss = int(saved["done"]), float(saved["loss"])
