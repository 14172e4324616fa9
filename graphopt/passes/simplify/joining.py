"""Join each operator of a kind with the one of that kind whose result it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.matching import made_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node


def join_chains(
    graph: Graph, op: str, join: Callable[[Graph, Node], bool], *, since: int = 1
) -> PassResult:
    """Join in order, so that chains of any length collapse, and say how many were joined.

    Args:
        graph: is changed in place.
        op: standard operator.
        join: makes one of the node and the one before it; whether it could.
        since: first opset whose spelling ``join`` knows.
    """
    chained = [n for n in graph.nodes(op) if not n.domain and made_by(n.inputs[0], op)]
    if not chained or graph.opset < since:
        return PassResult(False)
    ir.infer_shapes(graph)
    joined = 0
    for node in chained:
        while node.op == op and node.inputs and join(graph, node):
            joined += 1
    if not joined:
        return PassResult(False)
    metrics = {f"{op.lower()}s": joined}
    return PassResult(True, (counted(joined, "pair", f"of {op}s joined"),), metrics)
