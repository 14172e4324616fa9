"""Factors of a sum of parts from the logarithm of the sum, held around a prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

_LONGEST_STEP = 1.0
_ROUNDS = 40
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Prior:
    """What is believed of the logarithms of the factors before anything is measured.

    Args:
        mean: (groups,).
        covariance: (groups, groups), positive definite.
        noise: relative error of one measurement and of the model together.
        tail: degrees of freedom of Student's t distribution of that error: outliers weigh less.
    """

    mean: Array
    covariance: Array
    noise: float = 0.05
    tail: float = 2.0

    @classmethod
    def around(cls, groups: int, scale: float, spread: float, noise: float = 0.05) -> Prior:
        """Return the prior of a device that is ``scale`` faster or slower as a whole.

        log factor of group g = s + d_g; s ~ N(0, scale^2) is common to all groups, so that what no
        measurement shows follows the rest; d_g ~ N(0, spread^2) is the group's own.
        """
        covariance = np.full((groups, groups), scale**2) + np.eye(groups) * spread**2
        return cls(np.zeros(groups), covariance, noise)


@dataclass(frozen=True)
class Posterior:
    """The most probable logarithms of the factors, (groups,), and their covariance."""

    mean: Array
    covariance: Array

    @property
    def factors(self) -> Array:
        """What each group's time is multiplied by; above 0."""
        found: Array = np.exp(self.mean)
        return found


def log_times(logs: Array, parts: Array) -> tuple[Array, Array]:
    """Return log f_m = log sum_g exp(logs_g) parts_mg, and its derivatives: shares of the sum.

    Shapes: logs (..., groups) and parts (models, groups) give (..., models) and
    (..., models, groups). Every row of parts needs one entry above 0.
    """
    times = parts * np.exp(logs)[..., None, :]
    total = times.sum(axis=-1)
    return np.log(total), times / total[..., None]


def fit(parts: Array, log_measured: Array, prior: Prior, start: Array | None = None) -> Posterior:
    """Return the most probable factors: Gauss-Newton steps on reweighted least squares.

    Minimises sum_m rho(r_m) + (t - mean)' C^-1 (t - mean), where r_m = log y_m - log f_m(t) and
    rho is the negative log density of Student's t; factors are positive by construction.

    Args:
        parts: time of each group in each model at the prior's mean of 0, (models, groups).
        log_measured: logarithms of measured times, (models,), in the same unit.
        prior: what the factors are held around.
        start: logarithms of factors to begin with; a fit to almost the same data ends soon.
    """
    variance = prior.noise**2
    precision = np.linalg.inv(prior.covariance)
    logs = _start(parts, log_measured, prior) if start is None else start
    curvature = precision
    for _ in range(_ROUNDS):
        predicted, shares = log_times(logs, parts)
        residual = log_measured - predicted
        weight = (prior.tail + 1) / (prior.tail + residual**2 / variance) / variance
        curvature = (shares.T * weight) @ shares + precision
        slope = (shares.T * weight) @ residual - precision @ (logs - prior.mean)
        step = np.clip(np.linalg.solve(curvature, slope), -_LONGEST_STEP, _LONGEST_STEP)
        logs = logs + step
        if float(np.abs(step).max()) < _TOLERANCE:
            break
    return Posterior(logs, np.linalg.inv(curvature))


def _start(parts: Array, log_measured: Array, prior: Prior) -> Array:
    """Return the prior's mean, moved as a whole to the measurements."""
    predicted, _ = log_times(prior.mean, parts)
    start: Array = prior.mean + np.median(log_measured - predicted)
    return start
