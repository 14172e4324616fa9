"""What could be pruned from a model, what could not, and why: without pruning it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.analysis.branches import residual_branches
from graphopt.analysis.coupling.couple import traced
from graphopt.analysis.prunability import (
    BranchFacts,
    Costs,
    describe_group,
    explain_value,
    stored_weights,
    what_stays,
)
from graphopt.analysis.prunability.weights import covered_by
from graphopt.api.setup import (
    SEED,
    find_target,
    make_context,
    make_passes,
    open_samples,
    resolve_recipe,
)
from graphopt.api.source import naming, read_model
from graphopt.errors import ModelError
from graphopt.passes.prune.branches.possible import possible_kinds
from graphopt.passes.prune.prune_channels import PruneChannels
from graphopt.pipeline import Runner, Verifier, probe_feeds
from graphopt.planner.pruning.halves import divergence_of_halves
from graphopt.registry import Registry
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from graphopt.analysis.branches import Branch
    from graphopt.analysis.coupling.couple import Trace
    from graphopt.analysis.prunability import GroupFacts, Stays, TensorFacts
    from graphopt.api.division import Samples
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph, Value
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext
    from graphopt.planner.pruning.halves import Half
    from graphopt.recipe import Recipe
    from graphopt.report import Notice, Observe


@dataclass(frozen=True)
class PruningAnalysis:
    """What ``analyze --pruning`` tells about a model as it is before anything is removed.

    Args:
        model: its name.
        target: what times are estimated for.
        weights: numbers stored, after simplification.
        milliseconds: estimated time of one inference.
        groups: what can lose units, those that most of the time hangs on first.
        branches: residual branches, in order.
        stays: why weights stay, most weights first.
        free: share of the weights that hang on some group, in [0, 1].
        data: where the samples are from; empty without data.
        samples: how many divergences were measured on.
        notices: what went wrong on the way.
    """

    model: str
    target: str
    weights: int
    milliseconds: float
    groups: tuple[GroupFacts, ...]
    branches: tuple[BranchFacts, ...]
    stays: tuple[Stays, ...]
    free: float
    data: str = ""
    samples: int = 0
    notices: tuple[Notice, ...] = ()


def analyze_pruning(
    model: ModelSource,
    *,
    data: Source | None = None,
    target: str | None = None,
    recipe: Recipe | Path | str | None = None,
    overrides: Sequence[str] = (),
    registry: Registry | None = None,
    observe: Observe | None = None,
) -> PruningAnalysis:
    """List what can be pruned from a model, what that would save, and why the rest stays.

    The model is simplified first, as ``compile`` does before it prunes.

    Args:
        model: any model.
        data: samples, as for ``compile``: then also what the outputs lose when half of each group
            goes. They need no labels.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        recipe: preset name, file, or a recipe.
        overrides: "pass.option=value", strongest of all.
        registry: coupling rules, passes, targets and so on; built-ins and plugins when None.
        observe: is told about progress.

    Raises:
        ModelError: G201 to G209.
        DataError: G211 to G214.
    """
    made = _prepare(model, data, target, recipe, overrides, registry or Registry(), observe)
    context, graph, trace = made.context, made.graph, made.trace
    estimate = context.cost.estimate(graph, context.target)
    kernels = [(kernel.nodes, kernel.latency_us / 1e3) for kernel in estimate.kernels]
    costs = Costs(stored_weights(graph), kernels)
    halves = _halves(made)
    groups = [
        _with_half(describe_group(group, trace, graph.nodes(), costs), halves.get(group.name))
        for group in trace.coupling.groups
    ]
    return PruningAnalysis(
        model=made.name,
        target=context.target.name,
        weights=sum(costs.weights.values()),
        milliseconds=estimate.latency_ms.value,
        groups=tuple(sorted(groups, key=lambda g: (-g.time, -g.weights, g.name))),
        branches=tuple(_branch(b, costs) for b in residual_branches(graph)),
        stays=what_stays(trace, costs.weights),
        free=costs.weight_share(covered_by(trace.coupling.groups)),
        data=context.dataset.origin if context.dataset is not None else "",
        samples=next(iter(halves.values())).samples if halves else 0,
        notices=made.notices,
    )


def explain_tensor(
    model: ModelSource,
    tensor: str,
    *,
    axis: int | None = None,
    target: str | None = None,
    recipe: Recipe | Path | str | None = None,
    registry: Registry | None = None,
) -> TensorFacts:
    """Say of the axes of a tensor which group they belong to, what couples them, or why they stay.

    Args:
        model: any model; it is simplified first, as ``compile`` does before it prunes.
        tensor: its name, or that of a group.
        axis: one of its axes, from the back when negative; all when None.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        recipe: preset name, file, or a recipe.
        registry: coupling rules, passes, targets and so on; built-ins and plugins when None.

    Raises:
        ModelError: G217, there is no such tensor or axis; G201 to G209.
    """
    made = _prepare(model, None, target, recipe, (), registry or Registry(), None)
    value = _find(made, tensor)
    rank = len(value.shape) if value.shape is not None else None
    if axis is not None and (rank is None or not -rank <= axis < rank):
        has = "no known axes" if rank is None else f"{rank} axes, from 0"
        raise ModelError(
            f"`{value.name}` has no axis {axis}: it has {has}",
            code="G217",
            where=made.name,
            hint="leave the axis out to see all of them",
        )
    return explain_value(made.trace, value, axis if axis is None else axis % (rank or 1))


# -- the model as the pass finds it ----------------------------------------------------------


@dataclass(frozen=True)
class _Prepared:
    """A model that is ready to be pruned, and what couples its axes."""

    name: str
    original: Graph
    graph: Graph
    trace: Trace
    context: PipelineContext
    samples: Samples | None
    step: PruneChannels
    notices: tuple[Notice, ...]


def _prepare(
    model: ModelSource,
    data: Source | None,
    target: str | None,
    recipe: Recipe | Path | str | None,
    overrides: Sequence[str],
    registry: Registry,
    observe: Observe | None,
) -> _Prepared:
    graph, name = read_model(model)
    resolved = resolve_recipe(
        target=target, data=data, recipe=recipe, overrides=overrides, registry=registry
    ).recipe
    found = find_target(resolved.target, registry)
    samples = open_samples(data, resolved, graph, registry)
    fitting = samples.fitting if samples is not None else None
    # What the simplification did is what `compile` reports; here only the result matters.
    original = graph.copy()
    context = make_context(resolved, found, registry, fitting, source=original)
    before, step = _exact_part(make_passes(resolved, registry))
    with naming(name, graph):
        verifier = Verifier(graph, found, probe_feeds(graph, (), SEED), ())
        runner = Runner(context, verifier, resolved.limits)
        runner.run(graph, before)
        ir.infer_shapes(graph)
    trace = traced(graph, context.coupling_rules)
    notices = tuple(runner.notices)
    context.observe = observe
    return _Prepared(name, original, graph, trace, context, samples, step, notices)


def _exact_part(steps: Sequence[Pass]) -> tuple[Sequence[Pass], PruneChannels]:
    """Return the passes before the first that prunes or changes results, and the one that prunes.

    Where the recipe prunes nothing, what it would find is what the first such pass finds.
    """
    step = next((s for s in steps if isinstance(s, PruneChannels)), PruneChannels())
    end = next((i for i, s in enumerate(steps) if s.effect is not Effect.EXACT), len(steps))
    return steps[:end], step


def _find(made: _Prepared, name: str) -> Value:
    value = made.graph.find(name)
    if value is not None:
        return value
    for group in made.trace.coupling.groups:
        if group.name == name:
            return next(iter(group.axes)).value
    known = [v.name for v in made.graph.values() if v.name]
    close = get_close_matches(name, known, n=1)
    if made.original.find(name) is not None:
        raise ModelError(
            f"`{name}` is gone once the model is simplified",
            code="G217",
            where=made.name,
            hint=_hint(close),
        )
    raise ModelError(
        f"the model has no tensor `{name}`", code="G217", where=made.name, hint=_hint(close)
    )


def _hint(close: Sequence[str]) -> str:
    meant = f"did you mean `{close[0]}`? " if close else ""
    return f"{meant}`graphopt analyze MODEL --pruning` lists what can be pruned"


# -- parts of the answer ---------------------------------------------------------------------


def _halves(made: _Prepared) -> Mapping[str, Half]:
    if made.samples is None:
        return {}
    criterion = made.step.importance(made.step.criteria[0], made.context)
    return divergence_of_halves(made.graph, made.trace.coupling, made.context, criterion)


def _with_half(facts: GroupFacts, half: Half | None) -> GroupFacts:
    if half is None:
        return facts
    return replace(facts, half=half.width, divergence=half.divergence)


def _branch(branch: Branch, costs: Costs) -> BranchFacts:
    kinds, reason = possible_kinds(branch)
    inside = {v for node in branch.nodes for v in node.inputs if v in costs.weights}
    total = sum(costs.weights.values())
    spent = costs.time_of({node.label: 1.0 for node in branch.nodes})
    return BranchFacts(
        name=branch.name,
        entry=branch.entry.name,
        join=branch.join.label,
        operators=tuple(node.label for node in branch.nodes),
        weights=sum(costs.weights[v] for v in inside if v is not None) / total if total else 0.0,
        time=spent / costs.milliseconds if costs.milliseconds else 0.0,
        milliseconds=spent,
        kinds=tuple(kind.value for kind in kinds),
        reason=reason,
    )
