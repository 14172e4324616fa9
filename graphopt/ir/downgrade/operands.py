"""Operands that become attributes, and nodes that take the place of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir.downgrade.refusal import refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir.node import Node, Value


def integers(value: Value | None) -> list[int] | None:
    """Return a constant's numbers, flat; None for what is missing or no constant."""
    if value is None or not value.is_constant:
        return None
    return [int(v) for v in value.array().reshape(-1)]


def constant(node: Node, name: str, values: Any) -> Value:
    """Store a constant beside a node; a list is one of int64."""
    array = np.array(values, np.int64) if isinstance(values, list) else values
    return node.graph.add_constant(f"{node.label}_{name}", array)


def cut(node: Node, count: int) -> None:
    """Leave a node its first operands."""
    gone = node.inputs[count:]
    node.set_inputs(node.inputs[:count])
    for value in gone:
        node.graph.drop_constant(value)


def to_attribute(node: Node, index: int, name: str, found: Any) -> None:
    """Make the last operand, whose value is known, an attribute; None: there is none."""
    cut(node, index)
    node.set_attribute(name, found)


def dimension(value: Value | None, axis: int) -> int | str | None:
    """Return the length of an axis."""
    return value.shape[axis] if value is not None and value.shape else None


def positive(node: Node, axes: Sequence[int], *, inserted: bool = False) -> list[int]:
    """Return axes counted from the front; of the result where axes are inserted."""
    source = node.inputs[0]
    if source is None or source.shape is None:
        raise refusal(node, "counts axes of a tensor of unknown rank from the end")
    rank = len(source.shape) + (len(axes) if inserted else 0)
    return [axis % rank for axis in axes]


def inserted(
    node: Node,
    op: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, Any] | None = None,
) -> Value:
    """Add a node whose result has the type and shape of the given one's first; return that."""
    made = node.graph.add_node(op, inputs, 1, name=f"{node.label}_{op.lower()}",
                               attributes=attributes)  # fmt: skip
    made.outputs[0].dtype, made.outputs[0].shape = node.outputs[0].dtype, node.outputs[0].shape
    return made.outputs[0]


def replaced(
    node: Node,
    op: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    made: Sequence[Value] = (),
) -> list[Node]:
    """Put another operator in the place of a node; its results keep their names.

    Args:
        node: the node.
        op: what it becomes.
        inputs: its operands.
        attributes: its attributes; it keeps none of the old ones.
        made: results of other nodes that were inserted with it.

    Returns:
        All nodes that are new, for what else an older operator set asks of them.
    """
    node.op = op
    node.set_inputs(inputs)
    for name in node.attribute_names:
        node.set_attribute(name, None)
    for name, value in (attributes or {}).items():
        node.set_attribute(name, value)
    return [node, *(v.producer for v in made if v.producer is not None)]
