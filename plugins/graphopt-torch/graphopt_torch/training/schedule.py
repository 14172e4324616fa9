"""How fast a model is trained at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt_torch.samples import Augmentation

JUDGED = 16
"""How often the held-out samples are looked at during a training."""


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up and half a cosine (Loshchilov and Hutter 2017, "SGDR", section 3).

    Args:
        steps: in all.
        rate: the highest, of Adam: about the change in one step of a weight whose root mean square
            is 0.1; others change in proportion to theirs.
        batch: samples of a step.
        seed: of the order of samples and of their alteration.
        augment: how samples are altered.
        warm_up: share of the steps in which the rate rises.
        clip: largest norm of the gradient, as a multiple of the smoothed norm so far; 0 for none.
        averaging: decay of the moving average of the weights; 0 for none.
        weight_decay: as in AdamW.
        features: how much of the weight of features is left at the end; they begin with all of it.
        factors: of the rate, by group of parameters; 1 by default.
    """

    steps: int
    rate: float
    batch: int
    seed: int = 0
    augment: Augmentation | None = None
    warm_up: float = 0.05
    clip: float = 4.0
    averaging: float = 0.99
    weight_decay: float = 0.0
    features: float = 1.0
    factors: dict[str, float] = field(default_factory=dict)

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        rising = max(1, round(self.warm_up * self.steps))
        if step < rising:
            return self.rate * (step + 1) / rising
        done = (step - rising) / max(1, self.steps - rising)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * done))

    def features_at(self, step: int) -> float:
        """Return the share of the weight of features that a step counts."""
        return 1.0 + (self.features - 1.0) * step / max(1, self.steps)

    def averaging_at(self, step: int) -> float:
        """Return the decay of the moving average at a step; it is short at first."""
        return min(self.averaging, (step + 1) / (step + 10))

    def is_judged(self, done: int) -> bool:
        """Whether the held-out samples are looked at after so many steps."""
        return done == self.steps or done * JUDGED // self.steps > (done - 1) * JUDGED // self.steps
