"""What a legal graph is: checked when a model is read, and after every pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.defs

from graphopt.errors import ModelError
from graphopt.ir.order import dependencies, topological_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir.graph import Graph, Node, Value


def verify(graph: Graph) -> None:
    """Check definitions, order, interface, opset imports and operator signatures.

    Raises:
        ModelError: G205, naming the node or tensor and what is wrong with it.
    """
    problem = next(_problems(graph, graph), None)
    if problem is not None:
        raise ModelError(problem, code="G205", where=graph.name or None)


def _problems(graph: Graph, root: Graph) -> Iterator[str]:
    yield from _interface_problems(graph)
    yield from _order_problems(graph)
    for node in graph.nodes():
        yield from _node_problems(node, root)
        for inner in node.subgraphs:
            yield from _problems(inner, root)


def _interface_problems(graph: Graph) -> Iterator[str]:
    if not graph.outputs:
        yield "the graph has no outputs"
    names = [v.name for v in graph.outputs]
    for name in names:
        if names.count(name) > 1 and len(names) < 1000:
            yield f"output `{name}` is listed twice"
    for value in graph.outputs:
        if value.name == "" or not _is_defined(value):
            yield f"output `{value.name}` is produced by no node"


def _is_defined(value: Value) -> bool:
    sparse = value.graph.shell.sparse_initializer if value.graph.shell is not None else ()
    return (
        value.producer is not None
        or value.is_input
        or value.is_initializer
        or any(s.values.name == value.name for s in sparse)
    )


def _order_problems(graph: Graph) -> Iterator[str]:
    seen: set[Node] = set()
    for node in graph.nodes():
        late = next((d for d in dependencies(node) if d not in seen), None)
        if late is node:
            topological_order(graph.nodes())
        if late is not None:
            # Names the cycle when there is one; otherwise the nodes are only out of order.
            topological_order(graph.nodes())
            yield f"`{_name(node)}` comes before `{_name(late)}`, whose output it reads"
        seen.add(node)


def _node_problems(node: Node, root: Graph) -> Iterator[str]:
    for value in node.inputs:
        if value is not None and not _is_defined(value):
            yield f"`{_name(node)}` reads `{value.name}`, which nobody defines"
    functions = {(f.domain, f.name) for f in root.functions}
    if (node.domain, node.op) in functions:
        return
    version = root.opset if node.domain == "" else root.opsets.get(node.domain)
    if version is None:
        # The runtime knows its own domains; a missing import is the exporter's oversight.
        return
    yield from _signature_problems(node, version)


def _signature_problems(node: Node, version: int) -> Iterator[str]:
    try:
        schema = onnx.defs.get_schema(node.op, version, node.domain)
    except onnx.defs.SchemaError:
        if node.domain == "" and version <= onnx.defs.onnx_opset_version():
            yield f"`{_name(node)}`: opset {version} has no operator `{node.op}`"
        return
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        yield (
            f"`{_name(node)}`: {node.op} takes {schema.min_input} to {schema.max_input} inputs, "
            f"not {len(node.inputs)}"
        )
    if not schema.min_output <= len(node.outputs) <= schema.max_output:
        yield (
            f"`{_name(node)}`: {node.op} has {schema.min_output} to {schema.max_output} outputs, "
            f"not {len(node.outputs)}"
        )
    for key, declared in schema.attributes.items():
        if declared.required and key not in node.attribute_names:
            yield f"`{_name(node)}`: {node.op} needs the attribute `{key}`"


def _name(node: Node) -> str:
    return node.name or (node.outputs[0].name if node.outputs else node.op)
