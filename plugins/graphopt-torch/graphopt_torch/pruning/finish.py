"""How long each part of a training takes, and the training of what is left."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.passes.prune.outputs import output_divergence
from graphopt.passes.prune.samples import is_scored
from graphopt_torch.pruning.lesson import distilling
from graphopt_torch.training.learner import copies, put
from graphopt_torch.training.pace import seconds_per_step

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, PassResult
    from graphopt_torch.pruning.lesson import Options
    from graphopt_torch.training.checkpoint import Checkpoint
    from graphopt_torch.training.school import School


@dataclass(frozen=True)
class Budget:
    """What of a training is for what.

    Args:
        choosing: steps in which it is decided what goes; at least 1.
        finishing: steps after that; 0 where ``minutes`` says it.
        minutes: for what comes after, where that is how the budget was stated.
    """

    choosing: int
    finishing: int
    minutes: float = 0.0


def shared_out(school: School, options: Options, saved: Checkpoint) -> Budget:
    """Return how a budget is shared out; minutes are turned into steps by timing a few.

    Args:
        school: is timed; its weights are left as they are.
        options: of the pass.
        saved: a training in progress, which keeps the steps that it began with.
    """
    if options.steps:
        choosing = max(1, round(options.share * options.steps))
        return Budget(choosing, options.steps - choosing)
    after = options.minutes * (1.0 - options.share)
    begun = saved.load()
    if begun is not None and "steps" in begun:
        return Budget(int(begun["steps"]), 0, after)
    weights = list(school.weights.parameters.values())
    before = copies(weights)
    pace = seconds_per_step(school.stepper())
    put(before, weights)
    choosing = max(1, int(60.0 * options.minutes * options.share / pace))
    return Budget(choosing, 0, after)


def finished(graph: Graph, options: Options, budget: Budget, context: Context) -> PassResult:
    """Train what is left with the rest of a budget, in place; the best that was seen is kept.

    Args:
        graph: without what went.
        options: of the pass.
        budget: of which the rest is taken.
        context: of the pass.

    Returns:
        what training says, with its divergence, and the steps of both parts settled.
    """
    last = distilling(options, minutes=budget.minutes, steps=budget.finishing)
    result = last.run(graph, context)
    steps = budget.choosing + int(result.settled.get("steps", 0))
    settled = {**result.settled, "minutes": 0.0, "steps": steps}
    settled["share"] = budget.choosing / steps
    settled.pop("rate", None)
    metrics = dict(result.metrics)
    if "divergence" not in metrics:
        apart = output_divergence(context.original, graph, context, is_scored)
        metrics |= {} if apart is None else {"divergence": apart}
    return dataclasses.replace(result, metrics=metrics, settled=settled)
