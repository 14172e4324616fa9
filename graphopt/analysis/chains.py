"""Runs of layers without a skip: two or more products and what lies between them.

A run begins with a product of an activation and constants, goes on through operators that read one
activation only and are its only readers, and ends with another product. What it computes is a
function of one tensor, so that one linear operator can stand in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.branches import Chain, levels_of
from graphopt.analysis.uses import captured_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Node, Value

_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
_MOST_BETWEEN = 8
"""Operators between two products beyond which they are no neighbours."""


def linear_runs(graph: Graph, products: int = 3) -> tuple[Chain, ...]:
    """Return the runs of two to ``products`` products, from the inputs to the outputs.

    Neighbouring runs share operators (``Chain.overlaps``). Neither the order nor the result depends
    on the order of nodes.

    Args:
        graph: in topological order.
        products: how many a run has at most; 3 is what an inverted bottleneck has.
    """
    levels = levels_of(graph)
    fixed = {v for node in graph.nodes() if node.subgraphs for v in captured_values(node)}
    fixed.update(graph.outputs)
    found = [run for node in graph.nodes() for run in _runs_from(node, products, fixed)]
    return tuple(sorted(found, key=lambda r: (levels[r.nodes[0]], len(r.nodes), r.name)))


def _runs_from(first: Node, products: int, fixed: set[Value]) -> Iterator[Chain]:
    entry = _activation(first)
    if entry is None or not _is_product(first, entry):
        return
    run = [first]
    seen, since = 1, 0
    while seen < products and since <= _MOST_BETWEEN:
        following = _only_reader(run[-1], fixed)
        if following is None:
            return
        run.append(following)
        since += 1
        if _is_product(following, run[-2].outputs[0]):
            seen, since = seen + 1, 0
            yield Chain(following.outputs[0], entry, (), tuple(run))


def _activation(node: Node) -> Value | None:
    """Return the one input of a node that is not stored; None where there are others."""
    read = {v for v in node.inputs if v is not None and not (v.is_constant or v.is_initializer)}
    return read.pop() if len(read) == 1 and not node.subgraphs else None


def _is_product(node: Node, source: Value) -> bool:
    return node.op in _PRODUCTS and not node.domain and node.inputs[0] is source


def _only_reader(node: Node, fixed: set[Value]) -> Node | None:
    """Return what reads a node's result, if it is one operator of the same graph that needs it."""
    made = node.outputs[0]
    others = (v for v in node.outputs[1:] if v.uses or v in fixed)
    if made in fixed or next(others, None) is not None:
        return None
    readers = made.consumers
    if len(readers) != 1 or readers[0].graph is not node.graph:
        return None
    return readers[0] if _activation(readers[0]) is made else None
