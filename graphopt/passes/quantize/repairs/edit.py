"""Changing Q and DQ nodes: parameters, integers, and removal of what nobody reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import Tensor

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.types import DType

    Array = np.ndarray[Any, Any]


def set_parameters(
    graph: Graph, node: Node, scale: Array, zero: Array, dtype: DType, axis: int | None = None
) -> None:
    """Give a Q or DQ parameters of its own; one scale is stored with rank 0.

    Args:
        graph: the level that ``node`` is on.
        node: QuantizeLinear or DequantizeLinear.
        scale: one float32, or one per channel.
        zero: as many integers.
        dtype: of the integers.
        axis: of per-channel parameters; None for one scale.
    """
    name = node.outputs[0].name or node.name
    if axis is None:
        scale, zero = np.reshape(scale, ()), np.reshape(zero, ())
    old = node.inputs[1:3]
    node.set_input(1, graph.add_constant(f"{name}_scale", Tensor.from_array(scale)))
    node.set_input(2, graph.add_constant(f"{name}_zero_point", Tensor.from_array(zero, dtype)))
    node.set_attribute("axis", axis)
    if node.op == "QuantizeLinear":
        node.set_attribute("output_dtype", None)
        node.outputs[0].dtype = dtype
    for value in old:
        graph.drop_constant(value)


def set_constant(graph: Graph, node: Node, index: int, values: Array, dtype: DType) -> None:
    """Replace a constant input of ``node`` by another one."""
    old = node.inputs[index]
    name = old.name if old is not None else f"{node.outputs[0].name}_constant"
    node.set_input(index, graph.add_constant(f"{name}_repaired", Tensor.from_array(values, dtype)))
    graph.drop_constant(old)


def drop_unread(graph: Graph, node: Node | None) -> None:
    """Remove ``node``, and what only it needed among Q, DQ and constants, if nobody reads it."""
    stack = [node]
    while stack:
        each = stack.pop()
        if each is None or each.graph is not graph:
            continue
        if any(v.uses or v.is_output for v in each.outputs):
            continue
        read = each.inputs
        graph.remove(each)
        for value in read:
            graph.drop_constant(value)
            if value is not None and value.producer is not None and not value.uses:
                stack.append(value.producer)


def reals(stored: Array, scale: Array, zero: Array, axis: int) -> Array:
    """Return scale * (stored - zero) as float32, as DequantizeLinear computes it.

    Args:
        stored: integers.
        scale: one, or one per slice along ``axis``.
        zero: as many.
        axis: of ``stored``.
    """
    if scale.size > 1:
        shape = [1] * stored.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    steps = (stored.astype(np.int64) - zero).astype(np.float32)
    return np.asarray(steps * scale.astype(np.float32), dtype=np.float32)


def readers_are_dequantizers(value: Value) -> bool:
    """Whether nobody but DequantizeLinear nodes of the same level reads an integer tensor."""
    return (
        bool(value.uses)
        and not value.is_output
        and all(n.op == "DequantizeLinear" and n.graph is value.graph for n in value.consumers)
    )
