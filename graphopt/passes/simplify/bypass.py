"""Let the readers of a node read what it would only return."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value


def bypass(graph: Graph, node: Node, source: Value) -> bool:
    """Put ``source`` in the place of the first output of ``node``; return whether anything changed.

    A graph output must keep its name, and neither an input, a constant nor another output can take
    it: there the node becomes an Identity.
    """
    output = node.outputs[0]
    if output.is_output and not _can_be_renamed(source, graph):
        return _stand_in(node, source)
    graph.replace_uses(output, source)
    graph.remove(node)
    return True


def _can_be_renamed(source: Value, graph: Graph) -> bool:
    return source.producer is not None and not source.is_output and source.graph is graph


def _stand_in(node: Node, source: Value) -> bool:
    """Let readers read the source, and an Identity give the output its name."""
    readers = node.outputs[0].uses
    for reader, index in readers:
        reader.set_input(index, source)
    if (node.op == "Identity" and node.inputs == (source,)) or len(node.outputs) > 1:
        return bool(readers)
    node.op = "Identity"
    node.set_inputs([source])
    for name in node.attribute_names:
        node.set_attribute(name, None)
    return True


def drop_unread(graph: Graph, node: Node) -> None:
    """Remove a node that nobody reads any more, so that it is no reader of what it reads."""
    if not any(v.uses or v.is_output for v in node.outputs):
        graph.remove(node)
