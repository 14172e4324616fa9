"""What many measured devices have in common: the prior of a new one, and its best anchor models.

Log latencies of device d and model m:

    log y_dm = log sum_g exp(mu_g + delta_dg) parts_mg + eta_m + residual_dm

mu are the factors of the mean device, delta_d ~ N(0, S) those of a device, eta_m ~ N(0, tau^2)
what the terms miss of a model on every device. Residuals are not independent: devices with the same
kernels miss the same models, which the covariance of `Newcomer` learns. All are fitted to devices
other than the one that is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost.transfer import log_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_TAIL = 4.0
"""Degrees of freedom of Student's t: crowd-sourced tables have outliers."""

_STEP = 1.0
_CLIP = 0.5
"""Residuals beyond this are outliers, not what devices have in common."""


@dataclass(frozen=True)
class Beliefs:
    """What is held before any device is seen, and how large errors are; all of logarithms.

    Args:
        spread: standard deviation of a group's factor between devices.
        scale: that of a device as a whole.
        mean_spread: how far the mean device's groups may be from the base's.
        mean_scale: how far it may be as a whole.
        noise: error of one latency.
        model_error: tau above.
        weight: devices that the covariance of the factors counts as much as.
    """

    spread: float = 0.25
    scale: float = 2.0
    mean_spread: float = 1.0
    mean_scale: float = 3.0
    noise: float = 0.05
    model_error: float = 0.02
    weight: float = 6.0

    def factors(self, groups: int) -> Array:
        """Return the covariance of a device's factors."""
        return np.eye(groups) * self.spread**2 + self.scale**2

    def mean(self, groups: int) -> Array:
        """Return the covariance of the mean device's factors."""
        return np.eye(groups) * self.mean_spread**2 + self.mean_scale**2


@dataclass
class Population:
    """The fit: mu (groups,), delta (devices, groups), eta (models,), S (groups, groups)."""

    mean: Array
    deltas: Array
    effects: Array
    covariance: Array


def learn(
    parts: Array, logs: Array, beliefs: Beliefs, start: Population | None = None, rounds: int = 20
) -> Population:
    """Return the population of devices: blockwise Gauss-Newton steps, covariance by its mean.

    Args:
        parts: time of each group in each model at the base, (models, groups).
        logs: log latencies in the unit of ``parts``, (devices, models); NaN where not measured.
        beliefs: what is held before.
        start: where to start.
        rounds: passes over all blocks.
    """
    devices, groups = len(logs), parts.shape[1]
    prior = beliefs.factors(groups)
    found = start or Population(
        np.zeros(groups), np.zeros((devices, groups)), np.zeros(len(parts)), prior
    )
    for _ in range(rounds):
        _move_mean(found, parts, logs, beliefs)
        for _ in range(2):
            spread = _move_devices(found, parts, logs, beliefs)
        scatter = found.deltas.T @ found.deltas + spread.sum(axis=0)
        found.covariance = (scatter + beliefs.weight * prior) / (devices + beliefs.weight)
    return found


def residuals(found: Population, parts: Array, logs: Array) -> tuple[Array, Array]:
    """Return what the population does not explain, 0 where not measured, and the shares."""
    predicted, shares = log_times(found.mean + found.deltas, parts)
    missing = np.isnan(logs)
    return np.where(missing, 0.0, logs - predicted - found.effects), shares


def _weights(rest: Array, logs: Array, noise: float) -> Array:
    weight = (_TAIL + 1) / (_TAIL + (rest / noise) ** 2) / noise**2
    return np.where(np.isnan(logs), 0.0, weight)


def _move_mean(found: Population, parts: Array, logs: Array, beliefs: Beliefs) -> None:
    """Take one step in mu and eta together."""
    rest, shares = residuals(found, parts, logs)
    weight = _weights(rest, logs, beliefs.noise)
    groups, models = parts.shape[1], len(parts)
    held = np.linalg.inv(beliefs.mean(groups))
    weighted = shares * weight[..., None]
    system = np.zeros((groups + models, groups + models))
    system[:groups, :groups] = np.einsum("dmk,dml->kl", weighted, shares) + held
    system[:groups, groups:] = weighted.sum(axis=0).T
    system[groups:, :groups] = system[:groups, groups:].T
    system[groups:, groups:] = np.diag(weight.sum(axis=0) + beliefs.model_error**-2)
    slope = np.concatenate(
        [
            np.einsum("dmk,dm->k", weighted, rest) - held @ found.mean,
            (weight * rest).sum(axis=0) - found.effects * beliefs.model_error**-2,
        ]
    )
    step = np.linalg.solve(system, slope)
    found.mean = found.mean + np.clip(step[:groups], -_STEP, _STEP)
    found.effects = found.effects + step[groups:]


def _move_devices(found: Population, parts: Array, logs: Array, beliefs: Beliefs) -> Array:
    """Take one step in every delta; return their covariances, (devices, groups, groups)."""
    rest, shares = residuals(found, parts, logs)
    weighted = shares * _weights(rest, logs, beliefs.noise)[..., None]
    held = np.linalg.inv(found.covariance)
    system = np.einsum("dmk,dml->dkl", weighted, shares) + held
    slope = np.einsum("dmk,dm->dk", weighted, rest) - found.deltas @ held
    step = np.linalg.solve(system, slope[..., None])[..., 0]
    found.deltas = found.deltas + np.clip(step, -_STEP, _STEP)
    return np.linalg.inv(system)


class Newcomer:
    """A device that was not in the population: known models, a few of them measured on it.

    Log latencies of a device are normal. Mean and covariance over models start from the population
    (shares S shares' and what a model's residuals vary by) and are fitted to the other devices by
    expectation-maximisation, where the start counts as much as `_STRENGTH` devices.
    """

    def __init__(self, parts: Array, logs: Array, beliefs: Beliefs) -> None:
        """Learn from the other devices' ``logs``, (devices, models)."""
        self.found = learn(parts, logs, beliefs, rounds=12)
        base, shares = log_times(self.found.mean, parts)
        rest, _ = residuals(self.found, parts, logs)
        known = (~np.isnan(logs)).sum(axis=0)
        own = (np.clip(rest, -_CLIP, _CLIP) ** 2).sum(axis=0) / np.maximum(known, 1)
        start = shares @ self.found.covariance @ shares.T + np.diag(own + beliefs.noise**2)
        self.noise = beliefs.noise**2
        self.mean, self.covariance = _refined(base + self.found.effects, start, logs, self.noise)

    def predict(self, anchors: Sequence[int], logs: Array) -> Array:
        """Return log latencies of all models, (models,), given those of the anchors."""
        gain = self._gain(self.covariance, list(anchors))
        return self.mean + gain @ (logs[list(anchors)] - self.mean[list(anchors)])

    def anchors(self, available: Sequence[int], count: int) -> list[int]:
        """Return the models whose measurement leaves the least uncertainty about the others.

        Greedy; only the other devices decide, and which models can be measured at all.
        """
        chosen: list[int] = []
        for _ in range(count):
            rest = [m for m in available if m not in chosen]
            chosen.append(min(rest, key=lambda m: self._doubt([*chosen, m], available)))
        return chosen

    def _doubt(self, chosen: list[int], available: Sequence[int]) -> float:
        """Return the summed standard deviations of the models that are not chosen."""
        gain = self._gain(self.covariance, chosen)
        known = np.einsum("mi,im->m", gain, self.covariance[chosen])
        left = np.diag(self.covariance) - known + self.noise
        others = [m for m in available if m not in chosen]
        return float(np.sqrt(np.clip(left[others], 0.0, None)).sum())

    def _gain(self, covariance: Array, chosen: list[int]) -> Array:
        return _gain(covariance, np.array(chosen), self.noise)


_STRENGTH = 10.0
_REFINEMENTS = 8


def _refined(mean: Array, start: Array, logs: Array, noise: float) -> tuple[Array, Array]:
    """Return mean and covariance over models by EM with missing entries."""
    covariance, known = start, ~np.isnan(logs)
    for _ in range(_REFINEMENTS):
        offsets, doubt = np.zeros(logs.shape), np.zeros(start.shape)
        for row, seen in enumerate(known):
            chosen = np.flatnonzero(seen)
            gain = _gain(covariance, chosen, noise)
            offsets[row] = gain @ (logs[row, chosen] - mean[chosen])
            doubt += covariance - gain @ covariance[chosen]
        shift = offsets.mean(axis=0)
        apart = offsets - shift
        mean = mean + shift
        scatter = apart.T @ apart + doubt + _STRENGTH * start
        covariance = scatter / (len(logs) + _STRENGTH)
    return mean, covariance


def _gain(covariance: Array, chosen: Array, noise: float) -> Array:
    """Return what the offsets of the chosen models say about all, (models, chosen)."""
    inner = covariance[np.ix_(chosen, chosen)] + noise * np.eye(len(chosen))
    gain: Array = np.linalg.solve(inner, covariance[chosen]).T
    return gain
