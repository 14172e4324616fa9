"""Intervals of anything that is made of sums over samples: bootstrap, and jackknife for few."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.intervals.quantiles import student

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, Any]
    Statistic = Callable[[Array], Array]

FEW = 10
"""Below this many samples a bootstrap is too narrow; the jackknife with Student's quantile less so.
"""
RESAMPLES = 2000
_NORMAL = NormalDist()


def resampled_interval(rows: Array, statistic: Statistic, seed: int) -> tuple[float, float]:
    """Return the interval of statistic(sum of rows) over samples of the kind that were drawn.

    A BCa bootstrap (bias-corrected, accelerated, so that skewed numbers are done justice) whose
    quantiles are set apart as far as the variance of few samples is uncertain; below 10 samples
    Student's interval around the estimate, with the standard error of the jackknife.

    Args:
        rows: [samples, k], each the numbers that one sample adds; samples are independent, what is
            inside one need not be.
        statistic: function(sums [..., k]) -> [...].
        seed: of the resampling.

    Source: Efron 1987, Better bootstrap confidence intervals; Hesterberg 2015, What teachers should
    know about the bootstrap, 5.3 (expanded quantiles).
    """
    count = len(rows)
    estimate = float(statistic(rows.sum(axis=0)))
    if count < 2 or not math.isfinite(estimate):
        return -math.inf, math.inf
    left_out = statistic(rows.sum(axis=0) - rows)
    if count < FEW:
        return jackknife_interval(estimate, left_out)
    drawn = statistic(_weights(count, seed) @ rows)
    return _bias_corrected(estimate, drawn, left_out)


def jackknife_interval(estimate: float, left_out: Array) -> tuple[float, float]:
    """Return Student's interval with the standard error of a delete-one(-group) jackknife.

    Args:
        estimate: on all samples.
        left_out: the same with each sample, or each of equally large groups, left out; at least 2.

    Source: Tukey 1958; Shao and Tu 1995, The jackknife and bootstrap, 2.3.
    """
    groups = len(left_out)
    if groups < 2:
        return -math.inf, math.inf
    spread = float(np.square(left_out - left_out.mean()).sum()) * (groups - 1) / groups
    half = student(groups - 1) * math.sqrt(spread)
    return estimate - half, estimate + half


def _bias_corrected(estimate: float, drawn: Array, left_out: Array) -> tuple[float, float]:
    below = float((drawn < estimate).mean() + 0.5 * (drawn == estimate).mean())
    if below <= 0.0 or below >= 1.0:
        return _within(estimate, drawn, 0.0, 1.0)
    bias, count = _NORMAL.inv_cdf(below), len(left_out)
    pull = left_out.mean() - left_out
    power = float(np.square(pull).sum())
    bend = float((pull**3).sum()) / (6 * power**1.5) if power > 0.0 else 0.0
    wide = student(count - 1) * math.sqrt(count / (count - 1))
    ends = []
    for side in (-wide, wide):
        moved = bias + side
        ends.append(_NORMAL.cdf(bias + moved / max(1 - bend * moved, 1e-9)))
    return _within(estimate, drawn, *ends)


def _within(estimate: float, drawn: Array, low: float, high: float) -> tuple[float, float]:
    """Return quantiles of what was drawn, moved so that the estimate is inside."""
    found = np.quantile(drawn, [low, high])
    return min(float(found[0]), estimate), max(float(found[1]), estimate)


@lru_cache(maxsize=2)
def _weights(count: int, seed: int) -> Array:
    """Return how often each sample is drawn in each resample: float32 [RESAMPLES, count].

    The same for both models that are compared, and for every candidate: differences between
    candidates are not those of the resampling.
    """
    random = np.random.default_rng([seed, count])
    drawn = random.integers(0, count, (RESAMPLES, count), dtype=np.int32)
    drawn += np.arange(RESAMPLES, dtype=np.int32)[:, None] * count
    return (
        np.bincount(drawn.ravel(), minlength=RESAMPLES * count)
        .reshape(RESAMPLES, count)
        .astype(np.float32)
    )
