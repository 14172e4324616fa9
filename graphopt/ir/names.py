"""Names of nodes: anything goes in ONNX, while runtimes want them apart."""

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
