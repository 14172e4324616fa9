"""What a model is expected to lose elsewhere, given what it and all others lost here.

Of many models that are judged on the same samples, those that are taken were also lucky. An
estimate that takes in what was found for all of them is not deceived by a choice among them
(Efron 2011, Tweedie's formula and selection bias, sec. 1), so the choice is made by it:

- What models lose follows what they change. Noise of amplitude a moves the decisions that lie
  within about a of the border, a share in proportion to a, and what is lost of them on balance is
  in proportion to its power a^2. So drop = b h, with h the square of the share of decisions that
  went from right to wrong or back: that share is known much better than the balance of the two.
- b is fitted to all models, by what each is sure of. A model that lost much tells more of it than
  one that lost little, where chance is larger than the loss.
- Each model's own drop and that trend are averaged by their precision, where models are taken to
  scatter about the trend by a third of it: an assumption, not a measurement.

Where a drop is precise, as of figures in dB, what is expected is what was measured.
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.intervals import Z
from graphopt.analysis.metrics import POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.planner.joint.candidates import Made
    from graphopt.report import ScoreRecord

    Array = np.ndarray[Any, Any]

SCATTER = 0.35
"""Standard deviation of models about the trend, as a share of it."""
_ROUNDS = 8
_SMALLEST = 1e-12
_AGREEMENT = "agreement"


def with_expected(made: Sequence[Made]) -> list[Made]:
    """Return models with what is expected of each in its score, given all of them."""
    judged = [m for m in made if m.score is not None and _is_usable(m.score)]
    scores = {m.score: None for m in judged if m.score is not None}
    expected = dict(zip(scores, expected_drops(list(scores)), strict=True))
    return [
        m
        if m.score not in expected
        else dataclasses.replace(m, score=dataclasses.replace(m.score, expected=expected[m.score]))
        for m in made
    ]


def expected_drops(scores: Sequence[ScoreRecord]) -> list[float]:
    """Return the expected drop of each model; equal models count once in the trend."""
    if not scores:
        return []
    drops = np.array([s.drop for s in scores])
    errors = np.maximum([_error(s) ** 2 for s in scores], _SMALLEST)
    changes = np.array([_change(s) for s in scores])
    slope, doubt = _trend(drops, errors, changes)
    trend = slope * changes
    variance = (SCATTER * trend) ** 2 + doubt * changes**2
    share = variance / (variance + errors)
    return [float(d) for d in share * drops + (1.0 - share) * trend]


def _trend(drops: Array, errors: Array, changes: Array) -> tuple[float, float]:
    """Return the slope of the trend through 0, and its variance; 0 where nothing changes."""
    slope = 0.0
    ratios = np.divide(drops, changes, out=np.zeros_like(drops), where=changes > 0)
    for _ in range(_ROUNDS):
        weights = changes**2 / (errors + (SCATTER * slope * changes) ** 2)
        total = float(weights.sum())
        if total <= _SMALLEST:
            return 0.0, 0.0
        slope = _positive(float((weights * ratios).sum()) / total, total**-0.5)
    return slope, 1.0 / total


def _positive(mean: float, deviation: float) -> float:
    """Return the mean of a normal distribution of which all that is negative is cut off.

    Nothing is won by noise: a slope that is not positive is one that few samples say little of.
    """
    normal = NormalDist(mean, deviation)
    above = 1.0 - normal.cdf(0.0)
    if above <= _SMALLEST:
        return 0.0
    return mean + deviation**2 * normal.pdf(0.0) / above


def _is_usable(score: ScoreRecord) -> bool:
    return all(map(math.isfinite, (score.drop, score.drop_low, score.drop_high)))


def _error(score: ScoreRecord) -> float:
    """Return the standard error of a drop, from its interval."""
    return (score.drop_high - score.drop_low) / (2.0 * Z)


def _change(score: ScoreRecord) -> float:
    """Return what a drop should be in proportion to.

    In points, samples on which nothing changed leave an interval too: that part is no change.
    Where decisions are compared with the original's, all that change are lost.
    """
    variance = _error(score) ** 2 * score.samples
    if score.unit != POINTS:
        return math.sqrt(variance)
    unchanged = score.samples * (100.0 * Z / (score.samples + Z * Z)) ** 2
    share = max(variance - unchanged, 0.0) / 1e4
    return share if score.metric == _AGREEMENT else share**2
