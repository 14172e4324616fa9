"""Stable topological order without recursion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphopt.ir.node import Node

_SHOWN = 6
"""How many nodes of a cycle an error names."""


def dependencies(node: Node) -> Iterator[Node]:
    """Yield the nodes of the same graph whose outputs ``node``, or a graph inside it, reads."""
    graph = node.graph
    readers: list[Node] = [node]
    for inner in node.subgraphs:
        readers.extend(inner.walk())
    for inner in [g for reader in readers for g in reader.subgraphs]:
        yield from (v.producer for v in inner.outputs if v.producer and v.graph is graph)
    for reader in readers:
        for value in reader.inputs:
            if value is not None and value.producer is not None and value.graph is graph:
                yield value.producer


def topological_order(nodes: Iterable[Node]) -> list[Node]:
    """Return ``nodes`` so that producers come first; sorted input comes back as it was.

    Raises:
        ModelError: G205, the nodes depend on each other in a circle.
    """
    members = dict.fromkeys(nodes)
    done: set[Node] = set()
    open_: set[Node] = set()
    order: list[Node] = []
    for start in members:
        if start in done:
            continue
        stack = [(start, dependencies(start))]
        open_.add(start)
        while stack:
            node, pending = stack[-1]
            advance = next((d for d in pending if d not in done and d in members), None)
            if advance is None:
                stack.pop()
                open_.discard(node)
                done.add(node)
                order.append(node)
            elif advance in open_:
                path = [n for n, _ in stack]
                raise _cycle(path[path.index(advance) :])
            else:
                open_.add(advance)
                stack.append((advance, dependencies(advance)))
    return order


def _cycle(nodes: list[Node]) -> ModelError:
    """Return the error that names the nodes of a cycle in the order of the data."""
    names = [f"`{n.name or n.op}`" for n in (nodes[0], *reversed(nodes[1:]))]
    shown = names[:_SHOWN] + ["…"] * (len(names) > _SHOWN) + names[:1]
    return ModelError(
        f"the graph has a cycle: {' → '.join(shown)}",
        code="G205",
        hint="an ONNX graph is acyclic; the exporter that wrote it is at fault",
    )
