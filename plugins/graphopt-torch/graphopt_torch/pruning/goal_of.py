"""What a goal comes to for a graph: the largest figure that reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.passes.prune.goal import COUNTED
from graphopt.planner.pruning.clock import Ledger
from graphopt_torch.pruning.terms import full_widths

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.prune.goal import Goal
    from graphopt_torch.pruning.prices import Prices

_PAIRS = ("QuantizeLinear", "DequantizeLinear")


def limit_of(goal: Goal, graph: Graph, prices: Prices, context: Context) -> float:
    """Return the largest figure that reaches a goal.

    A share is of the model as it was given, as in ``prune-channels``; once the graph is quantized,
    and what is counted is not the same in integers, of the graph as it is.
    """
    now = prices.figure(goal.metric, full_widths(prices.sites))
    quantized = bool(graph.nodes(*_PAIRS)) and goal.metric not in COUNTED
    if not goal.relative or quantized:
        return goal.limit(now)
    return goal.limit(Ledger(context, goal.metric).total(context.original))
