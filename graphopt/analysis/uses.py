"""Who reads a value, what is stored with the graph, and what is known before it runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value

_NOT_FOLDED = frozenset(
    {
        "DequantizeLinear",  # kept, because an integer kernel may absorb it
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
    }
)


def folded_nodes(graph: Graph) -> frozenset[Node]:
    """Return the nodes of the top level that a runtime computes once, when the model is loaded.

    They are deterministic, read constants only and hold no subgraph.
    """
    folded: set[Node] = set()
    for node in graph.nodes():
        if node.op in _NOT_FOLDED or node.subgraphs:
            continue
        known = (v is None or v.is_constant or v.producer in folded for v in node.inputs)
        if all(known):
            folded.add(node)
    return frozenset(folded)


def levels(graph: Graph) -> tuple[Graph, ...]:
    """Return the graph and every graph inside it, outer ones first."""
    found = [graph]
    for level in found:
        found += [inner for node in level.nodes() for inner in node.subgraphs]
    return tuple(found)


def only_consumer(value: Value) -> Node | None:
    """Return the one node that reads ``value``; None with several, none, or a graph output."""
    uses = value.uses
    return uses[0][0] if len(uses) == 1 and not value.is_output else None


def captured_values(node: Node) -> tuple[Value, ...]:
    """Return the values of the node's own level that its subgraphs read, each once."""
    inner = (v for g in node.subgraphs for n in g.walk() for v in n.inputs if v is not None)
    returned = (v for g in node.subgraphs for v in g.outputs)
    found = dict.fromkeys(v for v in (*inner, *returned) if v.graph is node.graph)
    return tuple(found)


def stored_bytes(graph: Graph) -> int:
    """Return the bytes of all constants as ONNX packs them, subgraphs included.

    Initializers that a caller may override count too: the file holds them.
    """
    total = 0
    levels = [graph]
    while levels:
        level = levels.pop()
        for value in level.initializers:
            total += _packed(value)
        for node in level.nodes():
            levels.extend(node.subgraphs)
            tensor = node.outputs[0].tensor if node.op == "Constant" else None
            total += tensor.nbytes if tensor is not None else 0
    return total


def _packed(initializer: Value) -> int:
    if initializer.tensor is not None:
        return initializer.tensor.nbytes
    sizes = [d for d in initializer.shape or () if isinstance(d, int)]
    return initializer.dtype.nbytes(math.prod(sizes)) if initializer.dtype else 0
