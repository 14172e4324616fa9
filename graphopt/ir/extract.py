"""Cut a part of a graph out as a model of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.clone import clone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node, Value


def extract(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Return the part of ``graph`` that computes ``outputs`` from ``inputs`` and constants.

    Inputs of the original that the part still needs stay inputs.
    """
    part = clone(graph)
    cut = {part.value(name) for name in inputs}
    wanted = [part.value(name) for name in outputs]
    needed = _needed(wanted, cut)
    part.set_outputs(wanted)
    for node in reversed(part.nodes()):
        for output in node.outputs:
            if output in cut:
                # Values that become inputs outlive their producer, or are taken away from it.
                part.detach(output)
        if node not in needed:
            part.remove(node)
    for value in cut:
        if value.producer is None:
            part.set_tensor(value, None)
            part.add_input(value)
    for value in part.values():
        if not value.uses and value not in wanted and value.producer is None:
            part.remove_value(value)
    return part


def _needed(wanted: Sequence[Value], cut: set[Value]) -> set[Node]:
    needed: set[Node] = set()
    stack = [v.producer for v in wanted if v not in cut and v.producer is not None]
    while stack:
        node = stack.pop()
        if node in needed:
            continue
        needed.add(node)
        for reader in [node, *(n for g in node.subgraphs for n in g.walk())]:
            stack += [
                v.producer
                for v in reader.inputs
                if v is not None and v not in cut and v.producer and v.graph is node.graph
            ]
    return needed
