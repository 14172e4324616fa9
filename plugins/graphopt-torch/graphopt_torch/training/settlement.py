"""What a budget and open options come to: steps and a rate, which repeat the training exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt_torch.training.learner import copies, put
from graphopt_torch.training.pace import best_rate, seconds_per_step

if TYPE_CHECKING:
    from graphopt.passes.base import Context
    from graphopt_torch.distill_weights import DistillWeights
    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.school import School

_TRIAL = 0.05
"""Steps of a trial of a rate, as a share of all."""
_FEWEST, _MOST = 20, 400
"""Steps of a trial."""
_TRIALS = 3
"""Trials that the time of a budget is reckoned with."""
_LONG = 10
_FASTER, _FASTER_QUANTIZED = 30.0, 3.0
"""A long training gets so many times the best rate of its trials, which end before what a high rate
disturbs has come to rest. A guess from a few runs on two models, of which none compared rates over
a whole training: what is kept is never worse than what came in, whatever the rate. Integers have
less far to go."""
_HIGHEST = 1e-3
"""What the best rate of the trials is raised to at most."""
_JUDGING = 0.95
"""Share of the time that steps take; the rest is for judging and checkpoints."""


@dataclass(frozen=True)
class Settlement:
    """A training without open questions.

    Args:
        steps: to take.
        rate: the highest.
        batch: samples of a step.
    """

    steps: int
    rate: float
    batch: int


def settle(
    school: School, options: DistillWeights, kept: Checkpoint, context: Context
) -> Settlement:
    """Decide what is open; what was decided before, and kept, is taken.

    Args:
        school: what will be trained; it is the same afterwards.
        options: what is asked for.
        kept: where the decision is kept, as time does not give the same one twice.
        context: shows the trials.
    """
    saved = kept.load()
    if saved is not None and {"steps", "rate"} <= saved.keys():
        return Settlement(int(saved["steps"]), float(saved["rate"]), school.batch)
    steps = options.steps or _affordable(school, options)
    rate = options.rate or _chosen(school, steps, context)
    kept.save({"steps": np.array(steps), "rate": np.array(rate)})
    return Settlement(steps, rate, school.batch)


def trial_steps(steps: int) -> int:
    """Return how long a rate is tried for a training of so many steps."""
    return max(_FEWEST, min(_MOST, round(_TRIAL * steps)))


def _affordable(school: School, options: DistillWeights) -> int:
    """Return the steps that fit into the time, beside the trials; at least 1."""
    parameters = list(school.weights.parameters.values())
    before = copies(parameters)
    pace = seconds_per_step(school.stepper())
    put(before, parameters)
    in_all = int(_JUDGING * 60.0 * options.minutes / pace)
    if options.rate:
        return max(1, in_all)
    # In all: the training and the trials, each of which takes a share of it within bounds.
    share = int(in_all / (1.0 + _TRIALS * _TRIAL))
    return max(1, in_all // (_TRIALS + 1), in_all - _TRIALS * trial_steps(share))


def _chosen(school: School, steps: int, context: Context) -> float:
    trial = min(trial_steps(steps), steps)
    found = best_rate(lambda rate: school.attempt(trial, rate, f"trying {rate:g}", context))
    if steps < _LONG * trial:
        return found
    faster = _FASTER_QUANTIZED if school.is_quantized else _FASTER
    return max(found, min(faster * found, _HIGHEST))
