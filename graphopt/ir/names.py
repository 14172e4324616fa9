"""Names of nodes and values: runtimes want apart what files may hold twice."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


def separate_node_names(graph: Graph) -> int:
    """Rename nodes until no two of one graph share a name; return how many were renamed.

    Nodes without a name keep none. The first of several keeps its name, the others get a number.
    """
    renamed = 0
    for level in [graph, *(g for n in graph.walk() for g in n.subgraphs)]:
        taken = {n.name for n in level.nodes()}
        counts: Counter[str] = Counter()
        for node in level.nodes():
            base = node.name
            counts[base] += 1
            while base and counts[base] > 1 and node.name in taken:
                node.name = f"{base}_{counts[base]}"
                counts[base] += node.name in taken
            taken.add(node.name)
            renamed += node.name != base
    return renamed


def separate_inner_names(graph: Graph) -> int:
    """Give values of inner graphs names of their own; return how many shared one with an outer.

    A name that is defined on two levels is legal nowhere, and means the inner value inside.
    """
    renamed = 0
    for inner in [g for n in graph.walk() for g in n.subgraphs]:
        assert inner.parent is not None
        for value in inner.values():
            if value.name and inner.parent.lookup(value.name) is not None:
                inner.rename(value, inner.unique_name(value.name))
                renamed += 1
    return renamed
