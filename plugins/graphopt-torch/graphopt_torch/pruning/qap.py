"""Pruning inside training, from the graph that a pass is given to the one that it leaves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.passes.base import PassResult, counted
from graphopt.passes.prune.goal import Goal
from graphopt_torch.pruning.closing import Closing
from graphopt_torch.pruning.finish import Budget, finished, shared_out
from graphopt_torch.pruning.gates import Gates
from graphopt_torch.pruning.goal_of import limit_of
from graphopt_torch.pruning.gradual import Gradual, Pace
from graphopt_torch.pruning.lesson import lesson_for
from graphopt_torch.pruning.prices import Prices
from graphopt_torch.pruning.removed import removed
from graphopt_torch.pruning.saved import checkpoint_of
from graphopt_torch.pruning.sites import training_sites
from graphopt_torch.training.reproducible import best_device, reproducible
from graphopt_torch.training.school import telling

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Coupling
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt_torch.prune_while_training import PruneWhileTraining
    from graphopt_torch.training.checkpoint import Checkpoint

_RATE = 1e-3
"""Of Adam while units go: higher than for a finished model, as more is to be learned."""


def prune_while_training(graph: Graph, step: PruneWhileTraining, context: Context) -> PassResult:
    """Do what the pass says, in place; see ``PruneWhileTraining``."""
    ir.infer_shapes(graph)
    work = _Work.of(graph, step, context)
    if not work.closing.is_done:
        budget, saved = work.train(step, context)
        made, worst = removed(graph, work.coupling, work.closing.keeps, context)
        graph.assign(made)
        ir.infer_shapes(graph)
        result = _result(work, worst, finished(graph, step, budget, context))
        saved.discard()
        return result
    return PassResult(False, (f"nothing removed: {step.to} is reached as it is",))


@dataclass
class _Work:
    """What is known of a graph before it is trained."""

    graph: Graph
    coupling: Coupling
    closing: Closing

    @classmethod
    def of(cls, graph: Graph, step: PruneWhileTraining, context: Context) -> _Work:
        coupling = couple(graph, context.coupling_rules)
        sites, _ = training_sites(graph, coupling, step.exclude)
        prices = Prices(graph, coupling, sites, context)
        goal = Goal.parse(step.to)
        limit = limit_of(goal, graph, prices, context)
        return cls(graph, coupling, Closing(prices, goal.metric, limit, step.removals))

    def train(self, step: PruneWhileTraining, context: Context) -> tuple[Budget, Checkpoint]:
        """Train the graph's weights while gates close, and write them into it.

        Returns:
            what is left of the budget, and where the training was saved.
        """
        device = best_device()
        with reproducible(step.threads or torch.get_num_threads(), device):
            saved = checkpoint_of(self.graph, context, step, device)
            lesson = lesson_for(self.graph, context, self.closing.prices.sites, step, device)
            budget = shared_out(lesson, step, saved)
            pace = Pace(budget.choosing, step.rate or _RATE, step.lasso)
            gates = Gates(self.closing.prices.sites, device)
            training = Gradual(lesson, gates, self.closing, pace)
            training.run(telling(context, "pruning while training"), saved)
        lesson.weights.write(self.graph)
        return budget, saved


def _result(work: _Work, worst: float, end: PassResult) -> PassResult:
    closing = work.closing
    gone = sum(int((~keep).sum()) for keep in closing.keeps.values())
    groups = sum(not keep.all() for keep in closing.keeps.values())
    notes = (
        counted(gone, "unit", f"removed from {counted(groups, 'group', '')}".strip()),
        f"{closing.metric} {closing.figure / closing.start:.2f} of what it was",
        *end.notes,
    )
    metrics = {"units removed": float(gone), "oracle error": worst, **end.metrics}
    return dataclasses.replace(end, modified=True, notes=notes, metrics=metrics)
