"""What a search stands on: the model, its data divided, how it is judged, what it costs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.api.recovery import can_train, nothing_trained, untrained
from graphopt.api.searching.training import without_idle_training
from graphopt.api.searching.trial import without_limit
from graphopt.api.setup import (
    SEED,
    find_target,
    make_context,
    open_samples,
    resolve_recipe,
)
from graphopt.api.sizes import set_sizes
from graphopt.api.source import facts, naming, read_model
from graphopt.errors import DataError
from graphopt.pipeline import Verifier, probe_feeds
from graphopt.pipeline.validation import open_guard
from graphopt.planner.joint import Figures
from graphopt.recipe import Recovery, write_recipe
from graphopt.runtime import versions
from graphopt.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.division import Samples
    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph
    from graphopt.pipeline import PipelineContext
    from graphopt.pipeline.validation import Guard
    from graphopt.recipe import Recipe, ResolvedRecipe
    from graphopt.registry import Registry
    from graphopt.report import ModelFacts, Notice, Observe
    from graphopt.targets.base import Target

_BARE_BYTES = 300 << 20
"""Of a worker that makes the smallest model."""
_COPIES = 12
"""Of the weights, about, that a compile which prunes holds at its peak."""


@dataclass(frozen=True)
class Ground:
    """Everything that all candidates share.

    Args:
        source: the model as it was given: a file where it is one.
        graph: read from it, with the sizes that were stated.
        facts: of it.
        recipe: what every candidate starts from, without a largest drop.
        limit: the largest drop as it was stated; None for none.
        target: what it is for.
        data: as workers can open it, or as it was given where they cannot.
        samples: divided.
        guard: judges models.
        verifier: has the original open.
        context: of compiles in this process.
        figures: of the original.
        measure: whether finalists are timed on this machine.
        registry: passes, targets and so on.
        observe: is told about progress.
        basis: digest of all that every candidate depends on.
        recovery: how much is trained; None for nothing.
        notices: what is to be said of that.
    """

    source: Path | None
    graph: Graph
    facts: ModelFacts
    recipe: Recipe
    limit: str | float | None
    target: Target
    data: Any
    samples: Samples
    guard: Guard
    verifier: Verifier
    context: PipelineContext
    figures: Figures
    measure: bool
    registry: Registry
    observe: Observe | None
    basis: str
    recovery: Recovery | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """What one worker needs, about."""
        return _BARE_BYTES + _COPIES * ir.tensor_bytes(self.graph)


def prepare(
    model: ModelSource,
    data: Source,
    *,
    target: str | None,
    recipe: Recipe | Path | str | None,
    shapes: Shapes | None,
    dims: OpenDims | None,
    overrides: Sequence[str],
    recover: str | None,
    max_drop: str | float | None,
    validation: Source | None,
    measure: bool | None,
    registry: Registry,
    observe: Observe | None,
) -> Ground:
    """Read, divide and judge what was given; raises GraphOptError as a compile does."""
    graph, name = read_model(model)
    stated = [] if max_drop is None else [f"limits.max-drop={json.dumps(max_drop)}"]
    resolved = resolve_recipe(
        model=model if isinstance(model, str | Path) else None,
        target=target,
        data=data,
        validation=validation,
        recipe=recipe,
        shapes=shapes,
        dims=dims,
        overrides=[*overrides, *stated],
        recover=recover,
        registry=registry,
    )
    asked, recovery = _recovery(resolved, registry)
    with naming(name, graph):
        asked = dataclasses.replace(asked, model=set_sizes(graph, asked.model))
        ground = _ground(model, graph, name, asked, data, measure, registry, observe)
    told = tuple(nothing_trained(resolved, registry))
    return dataclasses.replace(ground, recovery=recovery, notices=told)


def _recovery(resolved: ResolvedRecipe, registry: Registry) -> tuple[Recipe, Recovery | None]:
    """Return a recipe that trains nothing by itself, and how much its candidates shall."""
    if not resolved.recover:
        return resolved.recipe, None
    recovery = Recovery.parse(resolved.recover)
    if not recovery.trains or not can_train(registry):
        return resolved.recipe, None
    return untrained(resolved.recipe), recovery


def _ground(
    model: ModelSource,
    graph: Graph,
    name: str,
    asked: Recipe,
    data: Source,
    measure: bool | None,
    registry: Registry,
    observe: Observe | None,
) -> Ground:
    found = find_target(asked.target, registry)
    samples = open_samples(data, asked, graph, registry, validate=True)
    if samples is None or samples.validation is None:
        raise DataError(
            "a search judges what it makes, and there is no data",
            code="G216",
            hint="--data FILE, some hundred samples, with labels where accuracy is meant",
        )
    real = [feed for _, feed in zip(range(2), samples.calibration, strict=False)]
    verifier = Verifier(
        graph, found, probe_feeds(graph, real, SEED), list(samples.held_out), timed=False
    )
    guard = open_guard(asked.limits, registry.metric, samples.validation, verifier.original)
    recipe = without_limit(asked)
    # What passes do while precisions are proposed is no news: the search shows its own progress.
    context = make_context(recipe, found, registry, samples.calibration, source=graph)
    context.probes = verifier.probes.feeds
    return Ground(
        source=Path(model) if isinstance(model, str | PathLike) else None,
        graph=graph,
        facts=facts(graph, name),
        recipe=recipe,
        limit=asked.limits.max_drop,
        target=found,
        data=Path(data) if isinstance(data, str | PathLike) else data,
        samples=samples,
        guard=guard,
        verifier=verifier,
        context=context,
        figures=_figures(graph, context),
        measure=found.is_host if measure is None else measure and found.is_host,
        registry=registry,
        observe=observe,
        basis=_basis(graph, recipe, samples, guard, found),
    )


def _figures(graph: Graph, context: PipelineContext) -> Figures:
    """Return what the model costs as it was given; energy is its own unit where it is a ratio."""
    found = context.cost.estimate(graph, context.target)
    known = found.energy_mj is not None
    return Figures(
        found.latency_ms.value,
        int(found.size_bytes),
        int(found.peak_activation_bytes),
        found.energy_mj.value if found.energy_mj is not None else 1.0,
        "mJ" if known else "x",
    )


def _basis(graph: Graph, recipe: Recipe, samples: Samples, guard: Guard, target: Target) -> str:
    """Return the digest of all that every candidate depends on: 64 hexadecimal digits."""
    told = [
        VERSION,
        versions(),
        ir.structural_hash(graph),
        write_recipe(without_idle_training(recipe)),
        samples.calibration.digest,
        guard.total,
        guard.metric.name,
        repr(target),
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def shared_data(data: Any, folder: Path) -> Any:
    """Return data as other processes can open it: arrays by name become a file."""
    if not isinstance(data, Mapping):
        return data
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.npz"
    np.savez(path, **data)
    return path
