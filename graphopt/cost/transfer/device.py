"""A few whole-model measurements and a base to a device profile with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost.curves import grid_of
from graphopt.cost.transfer.columns import columns, group_of
from graphopt.cost.transfer.posterior import Posterior, Prior, fit, log_times
from graphopt.cost.transfer.prior_curves import target_curves
from graphopt.targets.profile import DeviceProfile, KernelCurve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.signature import Signature
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]

MINIMUM_MODELS = 3
"""Fewer models say how fast a device is, but not how wrong that is."""

_SCALE = 3.0
"""How much faster or slower than its base a device may be as a whole: a factor of e^3 is common."""

_SPREADS = (0.1, 0.2, 0.4, 0.8, 1.6)
"""How far the groups of terms may move apart; leave-one-out chooses."""

_DOUBT = 0.3
"""Relative error of a leave-one-out error, times the number of models that it is the mean of."""

_NOISE = 0.05
"""Relative error of a measurement and of the terms together, before there are residuals."""

_NOISE_WEIGHT = 4.0
"""Models whose residuals count as much as that."""

_QUANTILE = 1.645
"""95 % quantile of the normal distribution."""

_NARROWEST = 0.03
"""Relative error that is always assumed: what repeated measurements of one model differ by."""


@dataclass(frozen=True)
class Measured:
    """One model on the device.

    Args:
        name: what it is called in notes.
        kernels: what the runtime executes.
        milliseconds: one inference.
    """

    name: str
    kernels: tuple[Signature, ...]
    milliseconds: float


@dataclass(frozen=True)
class Chosen:
    """The fit with the prior that leave-one-out chose, and the residuals of that."""

    posterior: Posterior
    spread: float
    residuals: Array
    """log of measured over predicted time, each model left out of the fit, (models,)."""


def transfer(
    measured: Sequence[Measured],
    base: Target,
    *,
    profile: DeviceProfile | None = None,
    device: str = "",
    runtime: str = "",
    threads: int = 1,
    digest: str = "",
) -> DeviceProfile:
    """Return the profile of a device of which only whole models were measured.

    The base's time is split into groups of terms (arithmetic by precision and family of kernels,
    bytes of activations, bytes of weights, calls); every group gets one factor, the logarithms of
    which are held around a common one by a Gaussian prior. Leave-one-out chooses how tightly, and
    gives the interval. A group that no model shows gets the common factor. Coefficients stay
    positive, so predictions still grow with every size.

    Args:
        measured: at least `MINIMUM_MODELS` models.
        base: target whose rules the device follows; its peaks are the prior.
        profile: profile of another device to take as the prior instead of the peaks.
        device: name of the device; "like <base>" when empty.
        runtime: name and version of what executed the models.
        threads: threads that all models were measured with.
        digest: SHA-256 of the measurements.

    Raises:
        ValueError: fewer models than needed, or a model without a kernel.
    """
    if len(measured) < MINIMUM_MODELS:
        raise ValueError(f"needs at least {MINIMUM_MODELS} models")
    curves = dict(profile.curves) if profile is not None else target_curves(base)
    run_us = profile.run_us if profile is not None else base.compute.run_us
    groups, parts = columns([m.kernels for m in measured], curves, grid_of(base))
    parts[:, groups.index("call")] += run_us
    if not (parts.sum(axis=1) > 0).all():
        raise ValueError("a model has no kernel")
    law = profile if threads == 1 else None  # measured with one thread, the others are as there
    chosen = choose(parts, np.log([m.milliseconds * 1e3 for m in measured]))
    factors = dict(zip(groups, chosen.posterior.factors.tolist(), strict=True))
    low, high = interval(chosen.residuals)
    return DeviceProfile(
        device=device or f"like {base.name}",
        base=base.name,
        runtime=runtime,
        threads=threads,
        governor="",
        curves=_scaled(curves, factors, len(measured)),
        run_us=run_us * factors["call"],
        speedup=dict(law.speedup) if law is not None else {},
        grain_us=law.grain_us if law is not None else 0.0,
        low=low,
        high=high,
        notes=_notes(measured, chosen, groups, parts),
        digest=digest,
    )


def interval(residuals: Array) -> tuple[float, float]:
    """Return the 5 % and 95 % quantile of measured over predicted time, from held-out residuals.

    exp(-t s) and exp(t s): s is the root mean square of the logarithms, at least 3 %, and t the
    quantile of Student's t with as many degrees of freedom as residuals (Abramowitz and Stegun,
    Handbook of Mathematical Functions, 26.7.5): few measurements give a wide interval.
    """
    count = len(residuals)
    spread = max(float(np.sqrt(np.mean(residuals**2))), _NARROWEST)
    z = _QUANTILE
    t = z + (z**3 + z) / (4 * count) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * count**2)
    return math.exp(-t * spread), math.exp(t * spread)


def choose(parts: Array, log_us: Array) -> Chosen:
    """Return the fit whose leave-one-out error is least; the tighter prior unless clearly worse.

    The error of a measurement is taken from the residuals of a first choice.
    """
    first = _best_spread(parts, log_us, _NOISE)
    robust = 1.4826 * float(np.median(np.abs(first.residuals)))
    count = len(log_us)
    noise = math.sqrt((_NOISE_WEIGHT * _NOISE**2 + count * robust**2) / (_NOISE_WEIGHT + count))
    return _best_spread(parts, log_us, noise)


def _best_spread(parts: Array, log_us: Array, noise: float) -> Chosen:
    clearly = 1 - _DOUBT / len(log_us)
    best: Chosen | None = None
    for spread in _SPREADS:
        prior = Prior.around(parts.shape[1], _SCALE, spread, noise)
        found = fit(parts, log_us, prior)
        residuals = left_out(parts, log_us, prior, found.mean)
        if best is None or _error(residuals) < clearly * _error(best.residuals):
            best = Chosen(found, spread, residuals)
    assert best is not None
    return best


def left_out(parts: Array, log_us: Array, prior: Prior, start: Array | None = None) -> Array:
    """Return log of measured over predicted time, each model predicted from the others."""
    residuals = np.empty(len(log_us))
    for index in range(len(log_us)):
        others = np.arange(len(log_us)) != index
        found = fit(parts[others], log_us[others], prior, start)
        predicted, _ = log_times(found.mean, parts[index : index + 1])
        residuals[index] = log_us[index] - predicted[0]
    return residuals


def _error(residuals: Array) -> float:
    return float(np.mean(np.abs(residuals)))


def _scaled(
    curves: Mapping[str, KernelCurve], factors: Mapping[str, float], points: int
) -> dict[str, KernelCurve]:
    scaled = {}
    for key, curve in curves.items():
        coefficients = {t: c * factors[group_of(key, t)] for t, c in curve.terms.items()}
        scaled[key] = KernelCurve(coefficients, curve.low, curve.high, points)
    return scaled


def _notes(
    measured: Sequence[Measured], chosen: Chosen, groups: tuple[str, ...], parts: Array
) -> tuple[str, ...]:
    errors = np.abs(np.expm1(-chosen.residuals))
    worst = int(np.argmax(errors))
    unseen = [g for g, column in zip(groups, parts.T, strict=True) if not column.any()]
    notes = [
        f"transferred from {len(measured)} whole-model measurements; no kernel was measured alone",
        f"each model predicted from the others: off by {errors.mean():.0%} on average, at most "
        f"{errors[worst]:.0%} ({measured[worst].name})",
    ]
    if unseen:
        notes.append(f"in no model, so scaled like the rest: {', '.join(unseen)}")
    return tuple(notes)
