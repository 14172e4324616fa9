"""One candidate of a search: compiled without a clock, and judged; this is what workers do."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from graphopt.api.compiler import compile_model
from graphopt.api.setup import find_target
from graphopt.api.source import read_model
from graphopt.errors import GraphOptError, LimitError
from graphopt.planner.joint import Figures
from graphopt.registry import Registry
from graphopt.report.stored import report_text
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from graphopt.api.compiled import Compiled
    from graphopt.pipeline.validation import Guard, GuardState, Score
    from graphopt.recipe import Recipe
    from graphopt.report import Report, ScoreRecord
    from graphopt.runtime import Session
    from graphopt.workers import Parcel, Shelf

_FIRST = 128
"""Validation samples that every model is judged on before it is known to be hopeless."""

_OPENED: dict[str, Guard] = {}
"""The guard of the last search that this process worked for, by what it follows from."""


@dataclass(frozen=True)
class Trial:
    """What a worker is asked to make.

    Args:
        label: how errors and reports call it.
        model: the model that was given.
        data: calibration and validation samples; a path where every worker sees it.
        recipe: with all overrides applied.
        guard: how to judge what comes out.
        plugins: names of those that may be used, as in the process that asks.
    """

    label: str
    model: Parcel
    data: Parcel | str
    recipe: Recipe
    guard: GuardState
    plugins: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True)
class Outcome:
    """What came out of a trial; ``fault`` says why nothing did."""

    model: Parcel | None = None
    report: str = ""
    figures: Figures | None = None
    score: ScoreRecord | None = None
    fault: str = ""
    seconds: float = 0.0


def run_trial(trial: Trial, shelf: Shelf) -> Outcome:
    """Compile a candidate, judge it, and hand its model back."""
    model = shelf.path(trial.model)
    data = trial.data if isinstance(trial.data, str) else shelf.path(trial.data)
    started = time.perf_counter()
    registry = _registry(trial.plugins)
    try:
        compiled = compiled_trial(model, data, trial.recipe, registry)
        score = judged(compiled, _guard(trial, model, registry), registry)
    except GraphOptError as error:
        return Outcome(fault=f"{error.code}: {error.message}", seconds=_since(started))
    return Outcome(
        shelf.keep(compiled.to_bytes(), "model.onnx"),
        report_text(compiled.report),
        figures_of(compiled.report),
        score.record,
        seconds=_since(started),
    )


def compiled_trial(
    model: Any, data: Any, recipe: Recipe, registry: Registry, *, measure: bool = False
) -> Compiled:
    """Compile a candidate; what its target cannot hold is a result as well.

    Args:
        model: the model that was given.
        data: calibration and validation samples.
        recipe: with all overrides applied.
        registry: passes, targets and so on.
        measure: whether its passes are chosen by timing on this machine.

    Raises:
        GraphOptError: there is no model.
    """
    try:
        return compile_model(
            model, data=data, recipe=recipe, measure=measure, registry=registry, validate=True
        )
    except LimitError as error:
        if error.compiled is None:
            raise
        return error.compiled  # type: ignore[return-value]


def judged(compiled: Compiled, guard: Guard, registry: Registry) -> Score:
    """Judge a model on ever more validation samples, until all are used or it is hopeless."""
    target = find_target(compiled.report.target, registry)
    session = open_session(compiled.graph, target=target)
    count, score = min(_FIRST, guard.total), None
    while True:
        score = guard.score(session, count, score)
        if count >= guard.total or guard.hopeless(score):
            return score
        count = min(2 * count, guard.total)


def figures_of(report: Report) -> Figures:
    """Return the figures of a compiled model."""
    return _figures(report, "after")


def figures_before(report: Report) -> Figures:
    """Return the figures of the model that was given."""
    return _figures(report, "before")


def _figures(report: Report, side: str) -> Figures:
    found = {f.name: f for f in report.figures}
    energy = found.get("energy")
    return Figures(
        latency_ms=getattr(found["latency"], side),
        size_bytes=int(getattr(found["size"], side)),
        ram_bytes=int(getattr(found["activation memory"], side)),
        energy=None if energy is None else getattr(energy, side),
        energy_unit="x" if energy is None else energy.unit,
    )


def without_limit(recipe: Recipe) -> Recipe:
    """Return the recipe without a largest drop: the search judges what comes out."""
    limits = dataclasses.replace(recipe.limits, max_drop=None, never_slower=False)
    return dataclasses.replace(recipe, limits=limits)


def _guard(trial: Trial, model: Path, registry: Registry) -> Guard:
    """Return what judges, opened once for all trials of a search that come to this process."""
    state = trial.guard
    told = (str(model), str(trial.data), repr(state.drop), state.order.tobytes(), trial.plugins)
    key = hashlib.sha256(repr((told, state.metric, state.seed)).encode()).hexdigest()
    if key not in _OPENED or not isinstance(state.metric, str):
        target = find_target(trial.recipe.target, registry)
        _OPENED.clear()
        _OPENED[key] = state.open(registry, lambda: open_session(model, target=target))
    return _OPENED[key]


def _original(model: Path, recipe: Recipe) -> Session:
    graph, _ = read_model(model, recipe.model)
    return open_session(graph)


@cache
def _registry(plugins: tuple[str, ...]) -> Registry:
    """Return the plugins of this process, found once."""
    return Registry(plugins=plugins)


def _since(started: float) -> float:
    return time.perf_counter() - started
