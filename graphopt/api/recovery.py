"""Training within a compile: when it has a cause, and what is said where nothing can train."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from graphopt.api.budget import quantizing_section
from graphopt.errors import GraphOptError, RecipeError
from graphopt.passes.elsewhere import PACKAGES
from graphopt.planner.plan import is_open, open_section
from graphopt.recipe import PassEntry, Recovery
from graphopt.recipe.recovery import TRAINING
from graphopt.report import Notice, RecoveryRecord
from graphopt.report.recovering import FLOAT, QUANTIZED
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from graphopt.passes.base import Pass
    from graphopt.recipe import Recipe, ResolvedRecipe
    from graphopt.registry import Registry
    from graphopt.report import PassRecord

_IDLE: dict[str, Any] = {"minutes": 0.0, "steps": 0}
"""Options with which a pass that trains does nothing."""


def is_training(step: Pass) -> bool:
    """Whether a pass will train."""
    return step.name in PACKAGES and any(getattr(step, name, 0) for name in _IDLE)


def without_training(steps: Sequence[Pass]) -> list[Pass]:
    """Return passes for a trial: what trains is left out, as it would take minutes each time."""
    return [step for step in steps if step.name not in PACKAGES]


def with_cause(steps: Sequence[Pass], records: Sequence[PassRecord]) -> list[Pass]:
    """Return passes, with training idle where nothing was lost since the last one.

    Args:
        steps: are to be run next.
        records: of all passes that were run.
    """
    lost = False
    for record in reversed(records):
        if record.name == TRAINING and record.settled:
            break
        if record.effect != Effect.EXACT.value and record.status == "changed":
            lost = True
            break
    return [_idle(step) if step.name == TRAINING and not lost else step for step in steps]


def _idle(step: Pass) -> Pass:
    changed: Pass = dataclasses.replace(step, **_IDLE)  # type: ignore[type-var]
    return changed


def untrained(
    recipe: Recipe, first: int = 0, names: Container[str] = frozenset({TRAINING})
) -> Recipe:
    """Return a recipe in which the passes of these names, from ``first`` on, train nothing."""
    entries = (
        PassEntry(e.use, {**e.options, **_IDLE}) if e.use in names and i >= first else e
        for i, e in enumerate(recipe.passes)
    )
    return dataclasses.replace(recipe, passes=tuple(entries))


def can_train(registry: Registry) -> bool:
    """Whether the plugin that trains is there."""
    try:
        registry.pass_class(TRAINING)
    except GraphOptError:
        return False
    return True


def nothing_trained(resolved: ResolvedRecipe, registry: Registry) -> list[Notice]:
    """Return what is said where training was asked for and the recipe has none."""
    if not resolved.recover or not Recovery.parse(resolved.recover).trains:
        return _extra_unused(resolved.recipe)
    entries = [e for e in resolved.recipe.passes if e.use == TRAINING]
    if any(e.options.get(name) for e in entries for name in _IDLE):
        return []
    if entries or can_train(registry):
        return [Notice("W405", "nothing was trained: the recipe neither prunes nor quantizes")]
    package = PACKAGES[TRAINING]
    return [
        Notice(
            "W405",
            f"nothing was trained: that takes the plugin `{package}`, which is not installed",
            f"pip install {package}; it lets what was compressed learn from the original, on the "
            "same unlabelled samples, which wins back much of what pruning and integers cost",
        )
    ]


def _extra_unused(recipe: Recipe) -> list[Notice]:
    trained = any(e.use in PACKAGES and any(map(e.options.get, _IDLE)) for e in recipe.passes)
    if recipe.calibration.extra is None or trained:
        return []
    text = "the samples of `calibration.extra` were not used: nothing in the recipe trains"
    return [Notice("W405", text, "--recover light, or leave them out")]


def trainings(records: Sequence[PassRecord]) -> tuple[RecoveryRecord, ...]:
    """Return what was trained, from the records of all passes that were run."""
    found = []
    quantized = False
    for record in records:
        quantized |= record.effect == Effect.APPROXIMATE.value and record.status == "changed"
        if record.name in PACKAGES and (record.settled or record.status == "changed"):
            found.append(_training(record, QUANTIZED if quantized else FLOAT))
    return tuple(found)


def _training(record: PassRecord, of: str) -> RecoveryRecord:
    known = {**record.options, **record.metrics, **record.settled}
    kept = record.status == "changed"
    return RecoveryRecord(
        by=record.name,
        of=of,
        steps=int(known.get("steps", 0)),
        seconds=record.seconds,
        before=record.metrics.get("divergence before"),
        after=record.metrics.get("divergence"),
        augment=str(known.get("augment", "")),
        kept=kept,
        why=record.reason or ("" if kept else "; ".join(record.notes)),
    )


def quantized_together(steps: Sequence[Pass]) -> tuple[int, int]:
    """Return the range of passes that are tried together until they are accurate and fast enough.

    A pass that trains ends it, since each trial would train.

    Raises:
        RecipeError: G103, behind that pass is one that leaves something open.
    """
    start, end = open_section(steps) if any(map(is_open, steps)) else quantizing_section(steps)
    inside = next((i for i in range(start, end) if is_training(steps[i])), end)
    if any(map(is_open, steps[inside:end])):
        name = steps[inside].name
        raise RecipeError(
            f"`{name}` stands between passes that quantize, which are tried many times",
            code="G103",
            where=f"`{name}`",
            hint=f"put it behind `{steps[end - 1].name}`, or before `{steps[start].name}`",
        )
    return start, inside
