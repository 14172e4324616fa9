"""From outputs to scores: the numbers of each sample, and what they say with 95 % confidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.intervals import (
    Z,
    jackknife_interval,
    paired_interval,
    resampled_interval,
    share_interval,
    student,
)
from graphopt.analysis.metrics import Expects
from graphopt.report import ScoreRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.metrics import AnyMetric, Metric, WholeMetric

    Array = np.ndarray[Any, Any]
    Interval = tuple[float, float]

GROUPS = 20
"""Groups of samples that are left out in turn where a metric takes all samples at once."""


@dataclass(frozen=True)
class Score:
    """How good a model is, and the numbers that say so.

    Args:
        record: the score with its intervals.
        numbers: float64; [samples, k] of a metric that is made of sums. Of one that is not, the
            count of samples, the value on all of them, and those with each group left out.
    """

    record: ScoreRecord
    numbers: Array

    @property
    def samples(self) -> int:
        """On how many samples."""
        return self.record.samples


def record_of(score: Score | ScoreRecord) -> ScoreRecord:
    """Return the record of a score; a record is its own."""
    return score.record if isinstance(score, Score) else score


def summed_score(metric: Metric, numbers: Array, original: Array, seed: int) -> ScoreRecord:
    """Return the score of a metric that is made of sums.

    Args:
        metric: the metric.
        numbers: [samples, k], of the model.
        original: [samples, k], of the original, for the same samples in the same order.
        seed: of the resampling.
    """
    samples = len(numbers)
    value = float(metric.value(numbers.sum(axis=0)))
    drop = float(metric.value(original.sum(axis=0))) - value
    if not math.isfinite(value) or not math.isfinite(drop):
        return _broken(metric, samples)
    if metric.share:
        interval, paired = _of_shares(metric, numbers, original, seed)
    else:
        interval = resampled_interval(numbers, metric.value, seed)
        paired = _paired(metric, numbers, original, seed)
    return _record(metric, samples, value, interval, drop, paired)


def _of_shares(
    metric: Metric, numbers: Array, original: Array, seed: int
) -> tuple[Interval, Interval]:
    """Return the intervals of a share and of its drop, in points.

    One position a sample: by score tests. Several: samples are resampled, since positions of one
    sample are not independent; where nothing varies, that says nothing, and the score test counts
    the positions.
    """
    if (numbers[:, 1] == 1).all() and (original[:, 1] == 1).all():
        count = float(len(numbers))
        interval = _points(share_interval(float(numbers[:, 0].sum()), count))
        lost, won = _changed(numbers, original)
        paired = _points(paired_interval(lost, won, count))
    else:
        interval = resampled_interval(numbers, metric.value, seed)
        paired = _paired(metric, numbers, original, seed)
        count = _counted(numbers)
        if interval[0] == interval[1]:
            share = float(numbers[:, 0].sum() / numbers[:, 1].sum())
            interval = _points(share_interval(share * count, count))
        if paired[0] == paired[1]:
            low, high = _points(paired_interval(0, 0, count))
            paired = paired[0] + low, paired[1] + high
    interval = max(interval[0], 0.0), min(interval[1], 100.0)
    if metric.expects is Expects.ORIGINAL:
        # The original agrees with itself, so the drop is what is missing.
        paired = 100.0 - interval[1], 100.0 - interval[0]
    return interval, paired


def _changed(numbers: Array, original: Array) -> tuple[float, float]:
    """Return how many samples were right and are wrong, and the other way round."""
    difference = original[:, 0] - numbers[:, 0]
    return float((difference > 0).sum()), float((difference < 0).sum())


def _counted(numbers: Array) -> float:
    """Return the positions, fewer where there are few samples.

    Source: Korn and Graubard 1998, Confidence intervals for proportions with small expected number
    of positive counts estimated from survey data, eq. 3, with a design effect of 1.
    """
    positions = float(numbers[:, 1].sum())
    return positions * (Z / student(max(len(numbers) - 1, 1))) ** 2


def _paired(metric: Metric, numbers: Array, original: Array, seed: int) -> Interval:
    """Return the interval of the drop: both models on the same resampled samples."""
    width = numbers.shape[1]

    def drop(sums: Array) -> Array:
        return np.asarray(metric.value(sums[..., :width]) - metric.value(sums[..., width:]))

    return resampled_interval(np.hstack([original, numbers]), drop, seed)


def _points(shares: Interval) -> Interval:
    return 100.0 * shares[0], 100.0 * shares[1]


def whole_numbers(metric: WholeMetric, outputs: Sequence[Array], expected: Sequence[Any]) -> Array:
    """Return the count, the value on all samples, and those with each group left out.

    Groups are every n-th sample; metrics of labels get those as an array where they can be stacked.
    """
    count = len(outputs)
    groups = min(GROUPS, count)
    owners = np.arange(count) % groups
    found = [float(count), _applied(metric, outputs, expected)]
    for group in range(groups):
        kept = [int(i) for i in np.flatnonzero(owners != group)]
        found.append(
            _applied(metric, [outputs[i] for i in kept], [expected[i] for i in kept])
            if kept
            else math.nan
        )
    return np.asarray(found, np.float64)


def _applied(metric: WholeMetric, outputs: Sequence[Array], expected: Sequence[Any]) -> float:
    same = len({np.shape(each) for each in expected}) == 1
    return float(metric(outputs, np.stack(expected) if same else list(expected)))


def whole_score(metric: WholeMetric, numbers: Array, original: Array) -> ScoreRecord:
    """Return the score of a metric that takes all samples at once, by a jackknife over groups.

    Args:
        metric: the metric.
        numbers: of the model, as ``whole_numbers`` gives them.
        original: of the original, on the same samples.
    """
    samples, value = int(numbers[0]), float(numbers[1])
    drop = float(original[1]) - value
    if not math.isfinite(value) or not math.isfinite(drop):
        return _broken(metric, samples)
    interval = _jackknifed(value, numbers[2:])
    paired = _jackknifed(drop, original[2:] - numbers[2:])
    return _record(metric, samples, value, interval, drop, paired)


def _jackknifed(estimate: float, left_out: Array) -> Interval:
    if not np.isfinite(left_out).all():
        return -math.inf, math.inf
    return jackknife_interval(estimate, left_out)


def _broken(metric: AnyMetric, samples: int) -> ScoreRecord:
    """Return the score of a model whose outputs are not finite."""
    nothing = (-math.inf, -math.inf)
    return _record(metric, samples, -math.inf, nothing, math.inf, (math.inf, math.inf))


def _record(
    metric: AnyMetric,
    samples: int,
    value: float,
    interval: Interval,
    drop: float,
    paired: Interval,
) -> ScoreRecord:
    return ScoreRecord(metric.name, metric.unit, value, *interval, samples, drop, *paired)
