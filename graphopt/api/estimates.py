"""What models cost on several targets, and what compression would change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.api.setup import cost_model, find_target
from graphopt.api.sizes import sizes_given
from graphopt.api.source import read_model
from graphopt.api.what_if import in_integers, with_fewer_channels
from graphopt.cost.planning import fit, plan_memory
from graphopt.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.cost.base import Estimate
    from graphopt.cost.planning import Fit
    from graphopt.ir import Graph
    from graphopt.targets.base import Target

PRUNED_SHARE = 0.25
"""Part of every prunable group that the question "what if it were pruned" takes away."""


@dataclass(frozen=True)
class WhatIf:
    """What one way of compressing would change: an estimate about a model that was not made.

    Args:
        change: "int8" (every operator that the target has an integer kernel for), or "pruned"
            (a quarter of the units of every group that can lose some).
        estimate: the cost of the changed model.
        times_faster: estimated time before over time after.
    """

    change: str
    estimate: Estimate
    times_faster: float


@dataclass(frozen=True)
class MemoryFacts:
    """The activation memory of one inference as it can be planned, in bytes.

    Args:
        planned_bytes: the arena, with operators in the best order that was found.
        lower_bound: what no placement in that order is below.
        given_bytes: the arena's bound in the order of the file.
        reordered: whether the order differs from the file's.
        is_optimal: whether it is known that no order and no placement need less.
        fit: whether it and the stored model fit into the target, or into what was asked for.
    """

    planned_bytes: int
    lower_bound: int
    given_bytes: int
    reordered: bool
    is_optimal: bool
    fit: Fit


@dataclass(frozen=True)
class TargetEstimate:
    """One model on one target.

    Args:
        model: its name.
        target: the target's name.
        estimate: its cost.
        memory: the plan of its activations.
        what_if: what compressing would change; empty where nothing can be changed, or nobody asked.
    """

    model: str
    target: str
    estimate: Estimate
    memory: MemoryFacts
    what_if: tuple[WhatIf, ...] = ()


@dataclass(frozen=True)
class Estimates:
    """One or two models on any number of targets, in the order asked for.

    Args:
        rows: a row per target.
        compared: the other model's rows, for the same targets; empty without one.
    """

    rows: tuple[TargetEstimate, ...]
    compared: tuple[TargetEstimate, ...] = ()


def estimate_targets(
    model: ModelSource,
    targets: Sequence[str],
    *,
    compare: ModelSource | None = None,
    what_if: bool = True,
    max_ram: int | None = None,
    max_flash: int | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
    registry: Registry | None = None,
) -> Estimates:
    """Estimate a model on several targets.

    Args:
        model: the model.
        targets: names, aliases, or files of targets and profiles.
        compare: another model, estimated on the same targets.
        what_if: also say what int8 and pruning would change; takes a second or so more.
        max_ram: bytes that activations may take; the target's own limit when None.
        max_flash: bytes that weights and graph may take; likewise.
        shapes: what the inputs of both are, as for a compile.
        dims: sizes of symbols, as for a compile; of bounds the larger one is estimated.
        registry: targets and cost models; built-ins and installed plugins when None.

    Raises:
        ModelError: G201 to G209, G218.
        TargetError: G501, G502.
    """
    registry = registry or Registry()
    found = [find_target(name, registry) for name in targets]
    limits, sizes = (max_ram, max_flash), sizes_given(shapes, dims)
    first, name = read_model(model, sizes)
    rows = _rows(first, name, found, registry, limits, what_if=what_if)
    if compare is None:
        return Estimates(rows)
    second, name = read_model(compare, sizes)
    other = _rows(second, name, found, registry, limits, what_if=False)
    return Estimates(rows, other)


def _rows(
    graph: Graph,
    name: str,
    targets: Sequence[Target],
    registry: Registry,
    limits: tuple[int | None, int | None],
    *,
    what_if: bool,
) -> tuple[TargetEstimate, ...]:
    rows = []
    for target in targets:
        costs = cost_model(target, registry)
        base = costs.estimate(graph, target)
        changed: list[tuple[str, Graph | None]] = []
        if what_if:
            changed = [
                ("int8", in_integers(graph, target, registry)),
                ("pruned", with_fewer_channels(graph, PRUNED_SHARE, target, registry)),
            ]
        answers = [
            _answer(change, costs.estimate(made, target), base)
            for change, made in changed
            if made is not None
        ]
        memory = _memory(graph, target, base, limits)
        rows.append(TargetEstimate(name, target.name, base, memory, tuple(answers)))
    return tuple(rows)


def _answer(change: str, found: Estimate, base: Estimate) -> WhatIf:
    return WhatIf(change, found, base.latency_ms.value / max(found.latency_ms.value, 1e-9))


def _memory(
    graph: Graph, target: Target, estimate: Estimate, limits: tuple[int | None, int | None]
) -> MemoryFacts:
    plan = plan_memory(graph, target)
    return MemoryFacts(
        planned_bytes=plan.peak_bytes,
        lower_bound=plan.lower_bound,
        given_bytes=plan.given_bytes,
        reordered=plan.reordered,
        is_optimal=plan.is_optimal,
        fit=fit(plan, estimate.size_bytes, target, max_ram=limits[0], max_flash=limits[1]),
    )
