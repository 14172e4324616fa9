"""The parts of a report that are found out after the passes have run."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.cost.energy import relative_energy
from graphopt.errors import LimitError
from graphopt.report import CalibrationRecord, FigureRecord, Notice, OperatorRecord
from graphopt.runtime import HEAVY
from graphopt.targets import host_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.api.compiled import Compiled
    from graphopt.api.division import Samples
    from graphopt.api.timing import Timed
    from graphopt.calibration.base import Observer
    from graphopt.calibration.synthetic import SyntheticDataset
    from graphopt.cost.base import Estimate
    from graphopt.pipeline import PipelineContext, Runner, Verifier
    from graphopt.recipe import Recipe
    from graphopt.runtime import Census
    from graphopt.targets.base import Target
    from graphopt.types import Figure

_QUANTIZING = frozenset({"insert-qdq", "quantize-matmuls", "quantize-weights"})
"""Passes that say why they left an operator in float."""


def machine() -> dict[str, Any]:
    """Return the machine that the compile ran on."""
    host = host_target()
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "isa": list(host.isa),
    }


def repeating(recipe: Recipe, samples: Samples | None) -> Recipe:
    """Return the recipe that repeats the compile: with the data that it ran on."""
    calibration = recipe.calibration
    if samples is not None and calibration.data is None:
        origin = samples.calibration.origin
        if Path(origin).exists():
            calibration = dataclasses.replace(calibration, data=origin)
    if samples is not None and samples.set_aside:
        calibration = dataclasses.replace(calibration, set_aside=samples.set_aside)
    return dataclasses.replace(recipe, calibration=calibration)


def operators(census: Census | None, context: PipelineContext) -> tuple[OperatorRecord, ...]:
    """Return how the runtime executes every heavy operator, from the graph that it really runs."""
    if census is None:
        return ()
    reasons = _reasons(context)
    fallback = (
        "no calibration data was given" if not context.has_data else "the model runs in float"
    )
    records = []
    for found in census.heavy:
        reason = None
        if not found.integer:
            without = f"onnxruntime computes {found.op} in float" if found.op not in HEAVY else None
            reason = found.why or reasons.get(found.node) or without or fallback
        records.append(OperatorRecord(found.node, found.op, found.arithmetic, found.kernel, reason))
    return tuple(records)


def _reasons(context: PipelineContext) -> dict[str, str]:
    """Return why nodes stayed in float, by name: the word of the last pass that said something."""
    return {e.node: e.reason for e in context.explanations.values() if e.by in _QUANTIZING}


def figures(old: Estimate, new: Estimate, timed: Timed | None) -> tuple[FigureRecord, ...]:
    """Return size, latency, memory and energy before and after."""
    found = [
        FigureRecord(
            "size", "bytes", old.size_bytes, new.size_bytes, "measured", "serialized model"
        )
    ]
    latency = _timed(timed) if timed else _forecast("latency", "ms", old.latency_ms, new.latency_ms)
    found.append(latency)
    found.append(
        FigureRecord(
            "activation memory",
            "bytes",
            old.peak_activation_bytes,
            new.peak_activation_bytes,
            "estimated",
            f"liveness; peak at {new.peak_at}",
        )
    )
    if old.energy_mj is not None and new.energy_mj is not None:
        found.append(_forecast("energy", "mJ", old.energy_mj, new.energy_mj))
        return tuple(found)
    ratio = relative_energy(old, new)
    if ratio is not None:
        one = dataclasses.replace(ratio, value=1.0)
        found.append(_forecast("energy", "x", one, ratio))
    return tuple(found)


def _timed(timed: Timed) -> FigureRecord:
    return FigureRecord(
        "latency",
        "ms",
        timed.before_ms,
        timed.after_ms,
        "measured",
        f"host, {timed.threads} thread, {timed.rounds} interleaved rounds, medians; "
        f"{timed.ratio:.2f}x the original's speed ({timed.ratio_of_minima:.2f}x by minima)",
        timed.before_ms / timed.high,
        timed.before_ms / timed.low,
    )


def _forecast(name: str, unit: str, before: Figure, after: Figure) -> FigureRecord:
    return FigureRecord(
        name, unit, before.value, after.value, after.source, after.basis, after.low, after.high
    )


def calibration_record(
    samples: Samples | None,
    recipe: Recipe,
    find_observer: Callable[[], Observer],
    stand_in: SyntheticDataset | None,
) -> CalibrationRecord | None:
    """Return what the ranges rest on, or without data what layers were fitted to."""
    if samples is None and stand_in is not None:
        from graphopt.passes.prune.samples import is_scored

        scored = sum(map(is_scored, range(len(stand_in))))
        # No range was measured on them, so no observer saw them.
        return CalibrationRecord(
            stand_in.origin, len(stand_in) - scored, scored, stand_in.digest, observer=""
        )
    if samples is None:
        return None
    spec = recipe.calibration.preprocessing
    return CalibrationRecord(
        origin=samples.calibration.origin,
        samples=len(samples.calibration),
        held_out=len(samples.held_out),
        digest=samples.calibration.digest,
        observer=repr(find_observer()),
        preprocessing=dataclasses.asdict(spec) if spec is not None else None,
    )


def check_notices(
    verifier: Verifier,
    samples: Samples | None,
    target: Target,
    runner: Runner,
    stand_in: SyntheticDataset | None = None,
) -> list[Notice]:
    """Return what the user should know about how the result was checked."""
    notices = []
    if not verifier.has_probes:
        notices.append(
            Notice(
                "W303",
                f"outputs could not be compared: the model rejects {verifier.probes.origin}: "
                f"{verifier.unusable}",
                "give a few real samples with --data",
            )
        )
    notices += verifier.notices
    approximate = (r.effect != "exact" and r.status == "changed" for r in runner.records)
    if samples is None and not any(approximate):
        notices.append(
            Notice(
                "W211",
                "without data the model was only optimised losslessly",
                "--data FILE makes integer execution possible: about a quarter of the size",
            )
        )
    if stand_in is not None:
        notices.append(
            Notice(
                "W213",
                f"pruned without data: layers were fitted to, and divergences measured on, "
                f"{len(stand_in)} synthetic samples made from BatchNormalization statistics",
                "--data FILE, a few hundred unlabelled samples, gives a more accurate model, and "
                "divergences that hold for it",
            )
        )
    return [*notices, *_target_notices(target)]


def _target_notices(target: Target) -> list[Notice]:
    """Return what is not known about a target that is not this machine."""
    notices = []
    if not target.provider:
        notices.append(
            Notice(
                "W502",
                f"outputs were checked with the onnxruntime of this machine, not on {target.name}",
            )
        )
    if target.prices_only:
        notices.append(
            Notice(
                "W505",
                f"nothing that graphopt compiled for {target.name} has ever been run there: its "
                "rules and figures are from documents",
                "check outputs and time on the device itself",
            )
        )
    return notices


def check_fits(compiled: Compiled, target: Target) -> None:
    """Raise LimitError G503, which carries the model, when the target cannot hold it."""
    size = next(f for f in compiled.report.figures if f.name == "size").after
    memory = next(f for f in compiled.report.figures if f.name == "activation memory")
    limits = target.memory
    faults = []
    if limits.storage_limit_bytes is not None and size > limits.storage_limit_bytes:
        faults.append(f"{_kib(size)} of storage where it has {_kib(limits.storage_limit_bytes)}")
    if limits.ram_limit_bytes is not None and memory.after > limits.ram_limit_bytes:
        faults.append(
            f"{_kib(memory.after)} of activation memory where it has "
            f"{_kib(limits.ram_limit_bytes)} ({memory.basis})"
        )
    if not faults:
        return
    error = LimitError(
        f"{target.name} cannot hold the model: it needs {' and '.join(faults)}",
        code="G503",
        hint="give --data for integer weights, a smaller input, or another target; "
        "--keep writes the model all the same",
    )
    error.compiled = compiled
    raise error


def _kib(count: float) -> str:
    return f"{count / 1024:.0f} KiB"
