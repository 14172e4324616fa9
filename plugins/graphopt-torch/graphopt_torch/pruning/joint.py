"""Widths and bits learned together, from the graph that a pass is given to the one it leaves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.errors import PassError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.prune.goal import Goal
from graphopt.planner.pruning.clock import Ledger
from graphopt_torch.pruning.bit_choice import BitChoice, eligible, store_in_four_bits
from graphopt_torch.pruning.compensation import compensate, readers_of
from graphopt_torch.pruning.decisions import decided_widths
from graphopt_torch.pruning.finish import Budget, finished, shared_out
from graphopt_torch.pruning.gates import Gates
from graphopt_torch.pruning.goal_of import limit_of
from graphopt_torch.pruning.importance import unit_scores
from graphopt_torch.pruning.lagrangian import Multiplier
from graphopt_torch.pruning.lesson import lesson_for, probes
from graphopt_torch.pruning.prices import Prices
from graphopt_torch.pruning.relaxed_gates import RelaxedGates
from graphopt_torch.pruning.removed import removed
from graphopt_torch.pruning.saved import checkpoint_of
from graphopt_torch.pruning.searching import Budgeted, Searching
from graphopt_torch.pruning.sites import kept_units, training_sites
from graphopt_torch.pruning.terms import full_widths
from graphopt_torch.training.reproducible import best_device, reproducible
from graphopt_torch.training.school import telling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.analysis.coupling import Coupling
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.prune.goal import Metric
    from graphopt_torch.learn_widths import LearnWidths
    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.school import School

    Array = np.ndarray[Any, Any]

_RATE = 1e-3
_PROBES = 8
_ATTEMPTS = 4
_MARGIN = 1.1
_SPEED = 10.0
"""Of prices, over all steps: what a figure twice its limit would cost in the end."""


@dataclass
class Decision:
    """What was learned.

    Args:
        scores: what units are worth, by group; float64 [units].
        keeps: which units stay, by group; bool [units].
        few: weights of four bits.
        budget: what is left of the training.
        saved: where it was saved.
    """

    scores: dict[str, Array]
    keeps: dict[str, Array]
    few: list[str]
    budget: Budget
    saved: Checkpoint


def learn_widths(graph: Graph, step: LearnWidths, context: Context) -> PassResult:
    """Do what the pass says, in place; see ``LearnWidths``."""
    ir.infer_shapes(graph)
    coupling = couple(graph, context.coupling_rules)
    sites, _ = training_sites(graph, coupling, step.exclude)
    prices = Prices(graph, coupling, sites, context)
    goals = [Goal.parse(text) for text in step.goals]
    limits = {goal.metric: limit_of(goal, graph, prices, context) for goal in goals}
    full = full_widths(sites)
    before = {metric: prices.figure(metric, full) for metric in limits}
    if all(before[metric] <= limit for metric, limit in limits.items()):
        return PassResult(False, (f"nothing to decide: {step.to} is reached as it is",))
    budgets = [Budgeted(m, prices.terms(m), Multiplier(v)) for m, v in limits.items()]
    # A budget that cannot be kept to is refused before anything is trained.
    equal = {site.name: np.ones(site.size) for site in sites}
    decided_widths(prices, budgets, equal, full, eligible(graph) if step.has_bits else ())
    decision = _decided(graph, step, context, prices, budgets)
    made, after, worst = _built(graph, coupling, prices, budgets, decision, context)
    graph.assign(made)
    ir.infer_shapes(graph)
    few = len(decision.few)
    notes = (_removals(decision), f"{few} weights in 4 bits", _reached(before, after))
    end = finished(graph, step, decision.budget, context)
    decision.saved.discard()
    gone = float(sum((~keep).sum() for keep in decision.keeps.values()))
    metrics = {"units removed": gone, "weights in 4 bits": float(few), "oracle error": worst}
    return dataclasses.replace(
        end, modified=True, notes=(*notes, *end.notes), metrics={**metrics, **end.metrics}
    )


def _decided(
    graph: Graph,
    step: LearnWidths,
    context: Context,
    prices: Prices,
    budgets: list[Budgeted],
) -> Decision:
    """Train, and return what is decided; the graph is left with the weights that were learned."""
    device = best_device()
    with reproducible(step.threads or torch.get_num_threads(), device):
        lesson = lesson_for(graph, context, prices.sites, step, device)
        saved = checkpoint_of(graph, context, step, device)
        budget = shared_out(lesson, step, saved)
        scores = _scores(lesson, prices, device)
        gates = RelaxedGates(prices.sites, scores, device)
        trained = lesson.weights.parameters if step.has_bits else ()
        bits = BitChoice(graph, trained, device)
        for each in budgets:
            each.price.speed = _SPEED / max(1, budget.choosing)
        search = Searching(lesson, gates, bits, budgets, budget.choosing, step.rate or _RATE)
        search.run(telling(context, "learning widths"), saved)
        few = bits.decided()
        widths = decided_widths(prices, budgets, scores, gates.decided(), few)
        keeps = {site.name: gates.keep(site, widths[site.name]) for site in prices.sites}
        _made_up(lesson, gates, keeps)
        lesson.weights.write(graph)
    return Decision(scores, keeps, few, budget, saved)


def _made_up(lesson: School, gates: RelaxedGates, keeps: Mapping[str, Array]) -> None:
    """Move what is left of units that go into biases."""
    weights = lesson.weights.parameters
    compensate(
        readers_of(gates.sites, weights),
        {name: ~keep for name, keep in keeps.items()},
        lesson.student,
        probes(lesson, _PROBES, lesson.seed),
        {name: value.detach() for name, value in lesson.weights.values().items()},
        gates.taps,
        weights,
    )


def _built(
    graph: Graph,
    coupling: Coupling,
    prices: Prices,
    budgets: list[Budgeted],
    decision: Decision,
    context: Context,
) -> tuple[Graph, dict[Metric, float], float]:
    """Return the model that was decided on, its figures, and the error of the removal.

    What is kept in four bits also needs operators and names, so that a size may still be too large
    then. Narrower widths make up for that.
    """
    limits = {budget.metric: budget.price.limit for budget in budgets}
    for _ in range(_ATTEMPTS):
        made, worst = removed(graph, coupling, decision.keeps, context)
        store_in_four_bits(made, decision.few, context)
        ir.infer_shapes(made)
        totals = Ledger(context, budgets[0].metric).totals(made)
        if all(totals[metric] <= limit for metric, limit in limits.items()):
            return made, {metric: totals[metric] for metric in limits}, worst
        for budget in budgets:
            excess = totals[budget.metric] - limits[budget.metric]
            budget.price.limit -= max(0.0, _MARGIN * excess)
        widths = {name: int(keep.sum()) for name, keep in decision.keeps.items()}
        widths = decided_widths(prices, budgets, decision.scores, widths, decision.few)
        decision.keeps = {
            site.name: kept_units(site, decision.scores[site.name], widths[site.name])
            for site in prices.sites
        }
    raise PassError(
        f"{', '.join(limits)}: what was decided on is too large by {excess:.3g}",
        code="G308",
        hint="ask for less",
    )


def _scores(lesson: School, prices: Prices, device: str) -> dict[str, Array]:
    gates = Gates(prices.sites, device)
    values = lesson.weights.values()
    feeds = probes(lesson, _PROBES, lesson.seed)
    return unit_scores(lesson.student, gates, feeds, values, lesson.seed)


def _removals(decision: Decision) -> str:
    gone = sum(int((~keep).sum()) for keep in decision.keeps.values())
    groups = sum(not keep.all() for keep in decision.keeps.values())
    return counted(gone, "unit", f"removed from {counted(groups, 'group', '')}".strip())


def _reached(before: Mapping[Metric, float], after: Mapping[Metric, float]) -> str:
    return ", ".join(f"{m} {after[m] / value:.2f} of what it was" for m, value in before.items())
