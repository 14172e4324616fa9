"""Which pass, and which node, made two models differ."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.api.setup import find_target, make_context, make_passes, open_samples, resolve_recipe
from graphopt.errors import GraphOptError, ModelError
from graphopt.ir import write_whole
from graphopt.pipeline import Verifier
from graphopt.pipeline.parting import first_parting
from graphopt.pipeline.state import State, apply, options_of
from graphopt.planner import Plan
from graphopt.registry import Registry
from graphopt.report import Bisection, PartingRecord, PassRecord
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Probes
    from graphopt.recipe import Recipe
    from graphopt.report import Observe

    Feed = Mapping[str, np.ndarray[Any, Any]]

_FINER = 0.1
"""Share of the tolerance that one pass may be responsible for when passes add up."""


def bisect_models(a: Graph, b: Graph, probes: Probes, tolerance: float) -> Bisection:
    """Find the first tensor at which two models differ.

    Raises:
        ModelError: G215, a model does not run on the probes.
    """
    return Bisection(tolerance, parting=_parting(a, b, probes, tolerance))


def bisect_recipe(
    original: Graph,
    probes: Probes,
    tolerance: float,
    *,
    recipe: Recipe | Path | str,
    target: str | None,
    data: Source | None,
    registry: Registry | None = None,
    observe: Observe | None = None,
) -> tuple[Graph, Bisection]:
    """Run the passes of a recipe one by one, up to the first that changes the outputs.

    What the recipe leaves open is settled as far as possible in favour of integers; a pass that
    fails is left out, as a compile would.

    Returns:
        the graph after that pass, or after all; and what was found.

    Raises:
        GraphOptError: the recipe is not valid, or the original does not run.
    """
    registry = registry or Registry()
    resolved = resolve_recipe(recipe=recipe, target=target, data=data, registry=registry).recipe
    found = find_target(resolved.target, registry)
    samples = open_samples(data, resolved, original, registry)
    calibration = samples.calibration if samples is not None else None
    context = make_context(resolved, found, registry, calibration, source=original, observe=observe)
    verifier = Verifier(original, found, probes, (), timed=False)
    context.probes = verifier.probes.feeds
    steps = _settled(make_passes(resolved, registry))
    return _walk(original.copy(), steps, context, verifier, tolerance)


def _settled(steps: Sequence[Pass]) -> Sequence[Pass]:
    closed = Plan.closed(steps)
    return closed.steps if closed.insert is None else closed.placed("integer").steps


def _walk(
    graph: Graph,
    steps: Sequence[Pass],
    context: PipelineContext,
    verifier: Verifier,
    tolerance: float,
) -> tuple[Graph, Bisection]:
    state = State.of(graph)
    traces: list[PassRecord] = []
    for step in steps:
        before = state
        if context.observe is not None:
            context.observe.pass_started(step.name)
        trace, state = _traced(graph, step, state, context, verifier, tolerance)
        traces.append(trace)
        if context.observe is not None:
            context.observe.pass_finished(trace)
        if trace.max_error is not None and not trace.max_error <= tolerance:
            limits = (tolerance, tolerance * _FINER)
            tried = (_parting(before.graph, graph, verifier.probes, limit) for limit in limits)
            parting = next(filter(None, tried), None)
            return graph, Bisection(tolerance, tuple(traces), step.name, parting)
    return graph, Bisection(tolerance, tuple(traces))


def _traced(
    graph: Graph,
    step: Pass,
    before: State,
    context: PipelineContext,
    verifier: Verifier,
    tolerance: float,
) -> tuple[PassRecord, State]:
    try:
        record, digest = apply(graph, step, context, before.digest)
        if record.status == "unchanged":
            return record, before
        limit = tolerance if step.effect is Effect.EXACT else math.inf
        error = verifier.check_exact(graph, limit).max_error
    except Exception as raised:
        before.restore(graph, step.name)
        reason = raised.message if isinstance(raised, GraphOptError) else repr(raised)
        failed = PassRecord(
            step.name, step.effect.value, options_of(step), "failed", 0.0, reason=reason
        )
        return failed, before
    return dataclasses.replace(record, max_error=error), State.of(graph, digest)


def _parting(a: Graph, b: Graph, probes: Probes, tolerance: float) -> PartingRecord | None:
    found = first_parting(a, b, probes.feeds, tolerance)
    if found is None:
        return None
    number, optimized, parting, compared = found
    return PartingRecord(
        tensor=parting.tensor,
        other=parting.other,
        max_rel=parting.error,
        place=parting.place,
        values=parting.values,
        agreed=parting.agreed,
        nodes_a=parting.nodes[0],
        nodes_b=parting.nodes[1],
        sample=number,
        shapes={k: tuple(v.shape) for k, v in probes.feeds[number].items()},
        optimized=optimized,
        compared=compared,
    )


def save_feed(feed: Feed, path: Path) -> None:
    """Write one input as .npz, as ``--data`` reads it.

    Raises:
        ModelError: G208, the file cannot be written.
    """
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **{name: array[None] for name, array in feed.items()})  # type: ignore[arg-type]
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise ModelError(
            f"cannot write `{path}`: {error.strerror or error}",
            code="G208",
            where=str(path),
            hint="choose another place, or make room there",
        ) from error
