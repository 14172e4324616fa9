"""Put what an inner graph computes into the graph around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.attributes import Attribute
from graphopt.ir.clone import clone
from graphopt.ir.node import Node, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir.graph import Graph


def splice(graph: Graph, inner: Graph, arguments: Sequence[Value] = ()) -> list[Value]:
    """Append a copy of the nodes of ``inner`` to ``graph``; return what its outputs have become.

    Names that are taken get a number. What ``inner`` captures from around it stays what it was, so
    an output may be a value that was there before. Call ``Graph.sort`` afterwards.

    Args:
        graph: takes the nodes; it is the one around ``inner``, or further in.
        inner: a branch or a body; stays as it is.
        arguments: what its inputs stand for, by position.
    """
    mapping: dict[Value, Value] = dict(zip(inner.inputs, arguments, strict=True))
    for value in inner.initializers:
        made = _value(graph, value)
        graph.set_tensor(made, value.stored)
        mapping[value] = made
    for node in inner.nodes():
        for output in node.outputs:
            mapping[output] = _value(graph, output) if output.name else Value(graph, "")
    for node in inner.nodes():
        _copy(graph, node, mapping)
    return [mapping.get(v, v) for v in inner.outputs]


def _value(graph: Graph, like: Value) -> Value:
    made = graph.new_value(graph.unique_name(like.name))
    made.dtype, made.shape = like.dtype, like.shape
    return made


def _copy(graph: Graph, node: Node, mapping: dict[Value, Value]) -> None:
    inputs = [None if v is None else mapping.get(v, v) for v in node.inputs]
    outputs = [mapping[v] for v in node.outputs]
    made = graph.add_node(node.op, inputs, outputs, name=node.name, domain=node.domain)
    made.source = node.source
    for attribute in node.attributes.values():
        graphs = tuple(clone(g, graph, mapping) for g in attribute.graphs)
        made.put_attribute(Attribute(attribute.proto, graphs, attribute.tensors))
