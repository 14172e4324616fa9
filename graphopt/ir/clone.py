"""Structural copies of graphs."""

from __future__ import annotations

from graphopt.ir.attributes import Attribute
from graphopt.ir.graph import Graph
from graphopt.ir.node import Node, Value


def clone(
    graph: Graph, parent: Graph | None = None, seen: dict[Value, Value] | None = None
) -> Graph:
    """Return a copy of ``graph``; ``seen`` maps the outer values that inner graphs capture."""
    mapping: dict[Value, Value] = {} if seen is None else seen
    copy = Graph(graph.name, parent)
    for key in ("ir_version", "functions", "shell", "model_shell", "declared_at_load", "_counter"):
        setattr(copy, key, getattr(graph, key))
    copy.opsets = dict(graph.opsets)
    copy.metadata = dict(graph.metadata)
    copy.bounds = dict(graph.bounds)
    copy.value_infos = list(graph.value_infos)
    for value in graph.values():
        mapping[value] = _copy_value(value, copy)
    for value in graph.initializers:
        kept = mapping[value].dtype, mapping[value].shape
        copy.set_tensor(mapping[value], value._tensor)
        mapping[value].dtype, mapping[value].shape = kept
    for value in graph.inputs:
        copy.add_input(mapping[value])
    for node in graph.nodes():
        _copy_node(node, copy, mapping)
    copy.set_outputs(mapping.get(v, v) for v in graph.outputs)
    return copy


def _copy_value(value: Value, graph: Graph) -> Value:
    made = graph.new_value(value.name)
    made.dtype, made.shape, made.source = value.dtype, value.shape, value.source
    return made


def _copy_node(node: Node, graph: Graph, mapping: dict[Value, Value]) -> None:
    made = Node(graph, node.op, node.domain, node.name)
    made.source = node.source
    graph.adopt(made)
    for output in node._outputs:
        target = mapping.get(output)
        if target is None:
            target = Value(graph, output.name)
        target.producer = made
        made._outputs.append(target)
    # Captured values of graphs around a copied inner graph map to themselves.
    made._inputs = [None if v is None else mapping.get(v, v) for v in node._inputs]
    for index, value in enumerate(made._inputs):
        if value is not None:
            value._uses[made, index] = None
    for name, attribute in node._attributes.items():
        if attribute.graphs:
            graphs = tuple(clone(g, graph, mapping) for g in attribute.graphs)
            made.put_attribute(Attribute(attribute.proto, graphs, attribute.tensors))
        else:
            made._attributes[name] = attribute
