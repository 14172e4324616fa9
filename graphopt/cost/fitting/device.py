"""The fit of a device: from its measurements to its profile."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.cost.curves import curve_time, grid_of, model_us
from graphopt.cost.fitting.curves import CurveFitter
from graphopt.cost.fitting.intervals import conformal
from graphopt.cost.fitting.keeping import best_keeping
from graphopt.cost.fitting.nnls import robust_nnls
from graphopt.cost.fitting.samples import samples_of
from graphopt.cost.fitting.threads import fit_threads
from graphopt.errors import TargetError
from graphopt.targets.profile import DeviceProfile, KernelCurve
from graphopt.targets.reader import builtin_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.fitting.samples import Sample
    from graphopt.cost.profiling.measurements import Measurements, ModelRow
    from graphopt.cost.terms import Grid
    from graphopt.targets.base import Target

_FOLDS = 5
_KEEPING_FOLDS = 3
_FEWEST_MODELS = 3
"""Whole models that the cost of a run is found from."""

_HOLD = 0.1
"""Relative error of a model that weighs as much as twice the expected cost of a run."""

_SCALES = (0.6, 1.6)
"""What kernels in a model may take, relative to what they were measured to take."""

_DEFAULT_MODEL = (0.7, 1.4)
"""Interval of whole models where none was measured."""


def fit(measurements: Measurements) -> DeviceProfile:
    """Return the profile that explains the measurements of one device.

    A curve for every class of kernels with enough samples, on a grid with the time that the last
    cache keeps what is not used; whole models give the cost of a run,
    and what kernels take inside a model relative to alone. Intervals come from samples that were
    left out of the fit: a fifth of the sources at a time, and every family of models in turn.

    Args:
        measurements: of one device, with its base target.

    Raises:
        TargetError: G501, the base is no built-in target; G504, no kernel was measured.
    """
    base = _base(measurements.base)
    threads = _fewest_threads(measurements)
    samples = samples_of(measurements, threads, base.quantization.activations)
    if not samples:
        raise TargetError(
            "not one kernel was measured",
            code="G504",
            hint="; ".join(measurements.notes[:3]) or "measure longer",
        )
    grid = with_keeping(samples, base)
    fitter = fitter_for(samples, grid, base)
    models = [m for m in measurements.models if m.threads == threads and m.kernels]
    curves = with_intervals(fitter, grid)
    expected = measurements.bias.get("run_us", 0.0) or base.compute.run_us
    run_us, scale = fit_run(models, curves, grid, expected)
    speedup, grain = fit_threads(_pairs(measurements, threads))
    profile = DeviceProfile(
        device=str(measurements.device.get("processor", "")),
        base=measurements.base,
        runtime=str(measurements.device.get("runtime", "")),
        threads=threads,
        governor=str(measurements.device.get("governor", "")),
        curves=scaled(curves, scale),
        run_us=run_us,
        speedup=speedup,
        grain_us=grain,
        keep_us=grid.keep_us if math.isfinite(grid.keep_us) else 0.0,
        notes=measurements.notes,
        digest=measurements.digest,
    )
    low, high = _model_interval(models, profile, fitter, grid)
    return dataclasses.replace(profile, low=low, high=high)


def fitter_for(samples: Sequence[Sample], grid: Grid, target: Target) -> CurveFitter:
    """Return a fitter that knows what is expected of a target."""
    return CurveFitter(samples, grid, prior_times(target), plausible_times(target))


def with_keeping(samples: Sequence[Sample], target: Target) -> Grid:
    """Return a target's grid with the time that its last cache is found to keep what is unused."""
    return best_keeping(
        grid_of(target), lambda grid: fitter_for(samples, grid, target).left_out(_KEEPING_FOLDS)
    )


def prior_times(target: Target) -> dict[str, float]:
    """Return the microseconds that a call and a kilobyte of distant weights are expected to take.

    They are hard to tell from measurements of large kernels, or of kernels alone.
    """
    memory = target.memory
    return {
        "call": target.compute.dispatch_us,
        "far_weight": 1.0 / memory.cache_gb_s,
        "cold_weight": 1.0 / memory.dram_gb_s,
    }


def plausible_times(target: Target) -> dict[str, float]:
    """Return about the most microseconds that the unit of a term makes sense to take."""
    memory = target.memory
    near, far = 1.0 / memory.cache_gb_s, 1.0 / memory.dram_gb_s
    cold = {"cold_call": _COLD_CALL_US, "cold_moved": far}
    return cold | dict.fromkeys(("far_moved", "spilled"), near)


_COLD_CALL_US = 5.0


def fit_run(
    models: Sequence[ModelRow], curves: Mapping[str, KernelCurve], grid: Grid, run_us: float
) -> tuple[float, float]:
    """Return (cost of one inference besides its kernels, scale of the kernels) by relative error.

    ``run_us`` is what is expected: long models do not tell it. It and a scale of 1 are left as
    they are by too few models.
    """
    if len(models) < _FEWEST_MODELS:
        return run_us, 1.0
    bare = DeviceProfile("", "", "", 1, "", dict(curves))
    sums = np.array([model_us(m.kernels, bare, grid) for m in models])
    actual = np.array([m.min_us for m in models])
    matrix = np.stack([np.ones_like(sums), sums], axis=1) / actual[:, None]
    expected = max(run_us, 1.0)
    ridge = np.array([(_HOLD / expected) ** 2, 0.0])
    found = robust_nnls(matrix, np.ones_like(actual), ridge, np.array([expected, 0.0]))
    return float(found[0]), float(np.clip(found[1], *_SCALES))


def scaled(curves: Mapping[str, KernelCurve], scale: float) -> dict[str, KernelCurve]:
    """Return the curves with every coefficient multiplied, and rounded to 4 digits."""
    return {
        key: dataclasses.replace(
            curve, terms={t: float(f"{c * scale:.4g}") for t, c in curve.terms.items()}
        )
        for key, curve in curves.items()
    }


def with_intervals(fitter: CurveFitter, grid: Grid) -> dict[str, KernelCurve]:
    """Return the curves of all samples, each with the interval of samples that were left out."""
    sources = sorted({sample.source for sample in fitter.samples})
    ratios: dict[str, list[float]] = defaultdict(list)
    for fold in range(min(_FOLDS, len(sources))):
        held = frozenset(sources[fold::_FOLDS])
        curves = fitter.fit(held)
        for sample in fitter.samples:
            if sample.source in held:
                _add_ratio(sample, curves, grid, ratios)
    return {
        key: _with_interval(curve, ratios[key]) for key, curve in fitter.fit().items()
    }  # fmt: skip


def _add_ratio(
    sample: Sample,
    curves: Mapping[str, KernelCurve],
    grid: Grid,
    ratios: dict[str, list[float]],
) -> None:
    found = curve_time(sample.signature, curves, grid, sample.around, general=True)
    if found is not None and found.us > 0:
        ratios[found.key].append(sample.us / found.us)


def _with_interval(curve: KernelCurve, ratios: Sequence[float]) -> KernelCurve:
    low, high = conformal(ratios)
    return dataclasses.replace(curve, low=round(low, 4), high=round(high, 4))


def _model_interval(
    models: Sequence[ModelRow], profile: DeviceProfile, fitter: CurveFitter, grid: Grid
) -> tuple[float, float]:
    """Return the interval of whole models, each family predicted without its own kernels."""
    ratios = []
    for family in sorted({model.family for model in models}):
        own = {model.model for model in models if model.family == family}
        curves = fitter.fit(frozenset(s.source for s in fitter.samples if s.source in own))
        others = [m for m in models if m.family != family]
        run_us, scale = fit_run(others, curves, grid, profile.run_us)
        left = dataclasses.replace(profile, curves=scaled(curves, scale), run_us=run_us)
        ratios += [m.min_us / model_us(m.kernels, left, grid) for m in models if m.family == family]
    return conformal(ratios, wide=_DEFAULT_MODEL)


def _pairs(measurements: Measurements, threads: int) -> dict[int, list[tuple[float, float]]]:
    """Return the times with one and with more threads of the kernels that have both."""
    one: dict[Any, float] = {}
    for row in measurements.rows:
        if row.threads == threads:
            one[row.signature, row.source, row.context] = row.min_us
    pairs: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for row in measurements.rows:
        alone = one.get((row.signature, row.source, row.context))
        if row.threads > threads and alone and row.min_us > 0:
            pairs[row.threads].append((alone, row.min_us))
    return dict(pairs)


def _fewest_threads(measurements: Measurements) -> int:
    return min((row.threads for row in measurements.rows), default=1)


def _base(name: str) -> Target:
    found = next((t for t in builtin_targets() if t.name == name), None)
    if found is None:
        names = ", ".join(t.name for t in builtin_targets())
        raise TargetError(f"unknown base target `{name}`", code="G501", hint=f"one of: {names}")
    return found
