"""New operators and constants, as passes add them to a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import Tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]


def add_operator(
    graph: Graph,
    op: str,
    inputs: Sequence[Value | None],
    shape: tuple[int | str | None, ...] | None,
    attributes: Mapping[str, Any] | None = None,
    *,
    like: Value,
    domain: str = "",
) -> Value:
    """Append an operator of one output, of the type of ``like`` and called after it.

    Nodes get no names: two could be the same. Call ``Graph.sort`` afterwards.
    """
    name = graph.unique_name(f"{like.name}_{op.lower()}")
    node = graph.add_node(op, inputs, [name], attributes, domain=domain)
    made = node.outputs[0]
    made.dtype, made.shape = like.dtype, shape
    return made


def reshape(graph: Graph, value: Value, shape: tuple[int, ...]) -> Value:
    """Return ``value`` in another shape; itself when it has that shape."""
    if value.shape == shape:
        return value
    sizes = graph.add_constant(f"{value.name}_shape", np.array(shape, dtype=np.int64))
    return add_operator(graph, "Reshape", [value, sizes], shape, like=value)


def transpose(graph: Graph, value: Value, order: Sequence[int]) -> Value:
    """Return ``value``, of known shape, with its axes in another order."""
    if list(order) == sorted(order):
        return value
    assert value.shape is not None
    shape = tuple(value.shape[axis] for axis in order)
    return add_operator(graph, "Transpose", [value], shape, {"perm": list(order)}, like=value)


def concat(graph: Graph, values: Sequence[Value], axis: int, shape: tuple[int, ...]) -> Value:
    """Return the values joined along an axis; the one value when there is only one."""
    if len(values) == 1:
        return values[0]
    return add_operator(graph, "Concat", values, shape, {"axis": axis}, like=values[0])


def split(graph: Graph, value: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """Return the parts of ``value``, of static shape, along an axis."""
    if len(sizes) == 1:
        return [value]
    assert value.shape is not None
    lengths = graph.add_constant(f"{value.name}_sizes", np.array(sizes, dtype=np.int64))
    names = [graph.unique_name(f"{value.name}_part_{i}") for i in range(len(sizes))]
    node = graph.add_node("Split", [value, lengths], names, {"axis": axis})
    for part, size in zip(node.outputs, sizes, strict=True):
        part.dtype = value.dtype
        part.shape = (*value.shape[:axis], size, *value.shape[axis + 1 :])
    return list(node.outputs)


def cut(graph: Graph, value: Value, axis: int, start: int, size: int) -> Value:
    """Return ``size`` consecutive elements of an axis, of static shape."""
    assert value.shape is not None
    bounds = [
        graph.add_constant(f"{value.name}_{what}", np.array([number], dtype=np.int64))
        for what, number in (("start", start), ("end", start + size), ("axis", axis))
    ]
    shape = (*value.shape[:axis], size, *value.shape[axis + 1 :])
    return add_operator(graph, "Slice", [value, *bounds], shape, like=value)


def replace_constant(
    graph: Graph, node: Node, index: int, values: Array, suffix: str = "scaled"
) -> None:
    """Give one input of a node another constant of the same type, called after the old one.

    The old one goes if nobody else reads it.
    """
    old = node.inputs[index]
    assert old is not None
    tensor = Tensor.from_array(np.asarray(values, dtype=old.array().dtype))
    node.set_input(index, graph.add_constant(f"{old.name}_{suffix}", tensor))
    graph.drop_constant(old)


def remove_unread(graph: Graph) -> None:
    """Remove the operators whose results nobody reads, and then those that only they read."""
    stack = graph.nodes()
    gone: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in gone or node.subgraphs or any(v.uses or v.is_output for v in node.outputs):
            continue
        stack += [v.producer for v in node.inputs if v is not None and v.producer is not None]
        gone.add(node)
        graph.remove(node)
