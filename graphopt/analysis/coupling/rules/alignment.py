"""What many rules say alike: axes that go together, broadcasting, and constants to rewrite.

Everything here freezes, with the reason, where sizes contradict each other or are not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.links import axes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import numpy as np

    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

MICROSOFT = "com.microsoft"
"""The domain of the operators that only onnxruntime has."""


# -- reading nodes -------------------------------------------------------------------------


def operand(node: Node, index: int) -> Value | None:
    """Return an input; None where it is omitted."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return value if value is not None and value.name else None


def result(node: Node, index: int = 0) -> Value | None:
    """Return an output; None where it is omitted, or nobody reads it and its rank is not known."""
    value = node.outputs[index] if index < len(node.outputs) else None
    return value if value is not None and value.name and value.shape is not None else None


def rank(value: Value | None) -> int:
    """Return the number of axes of a tensor; 0 where that is not known, or it is omitted."""
    return len(value.shape or ()) if value is not None else 0


def position(axis: Any, count: int) -> int | None:
    """Return an axis that may count from the end as one of ``count``; None when it is none."""
    if not isinstance(axis, int) or not -count <= axis < count:
        return None
    return axis % count


def whole_numbers(value: Value | None) -> list[int] | None:
    """Return the values of an integer constant, flattened; None when it is not one."""
    if value is None or value.tensor is None:
        return None
    array = value.array()
    return [int(number) for number in array.reshape(-1)] if array.dtype.kind in "iu" else None


def is_single(value: Value | None) -> bool:
    """Whether a tensor has exactly one element, however many axes."""
    return value is not None and value.shape is not None and all(d == 1 for d in value.shape)


# -- coupling ------------------------------------------------------------------------------


def together(links: Links, node: Node, axes: Sequence[Axis]) -> None:
    """Tie axes index by index; freeze them all where their sizes contradict each other."""
    if len({axis.size for axis in axes if axis.size is not None}) > 1:
        for axis in axes:
            links.freeze(axis, f"the sizes around {node.op} `{node.label}` contradict each other")
        return
    for axis in axes[1:]:
        links.tie(axes[0], axis)


def same_axes(
    links: Links, node: Node, values: Iterable[Value | None], but: Collection[int] = ()
) -> bool:
    """Tie all axes of tensors of one shape, position by position.

    Args:
        links: what is said.
        node: the operator.
        values: the tensors; None for omitted ones.
        but: positions about which nothing is said.

    Returns:
        Whether their ranks agree; where not, the node is frozen.
    """
    given = [value for value in values if value is not None]
    ranks = {rank(value) for value in given}
    if len(ranks) != 1:
        links.freeze_node(node, contradiction(node))
        return False
    for place in range(ranks.pop()):
        if place not in but:
            together(links, node, [Axis(value, place) for value in given])
    return True


def broadcast(
    links: Links, node: Node, values: Iterable[Value | None], made: Value, but: Collection[int] = ()
) -> None:
    """Tie the axes of operands to those of what they are broadcast to, aligned at the last.

    An operand with one index on an axis serves all indices of the result, so it is tied only
    where the result has one index too.

    Args:
        links: what is said.
        node: the operator.
        values: the operands; None for omitted ones.
        made: the result.
        but: positions of the result about which nothing is said.
    """
    given = [value for value in values if value is not None]
    if any(rank(value) > rank(made) for value in given):
        links.freeze_node(node, contradiction(node))
        return
    for place in range(rank(made)):
        aligned = [Axis(v, place - rank(made) + rank(v)) for v in given]
        aligned = [axis for axis in aligned if axis.position >= 0]
        if place not in but:
            _broadcast_axis(links, node, aligned, Axis(made, place))


def _broadcast_axis(links: Links, node: Node, aligned: list[Axis], made: Axis) -> None:
    wide = [axis for axis in aligned if axis.size != 1]
    if not wide and made.size not in {1, None}:
        links.freeze(made, f"the sizes around {node.op} `{node.label}` contradict each other")
    elif wide:
        together(links, node, [made, *wide])
    elif made.size == 1:
        together(links, node, [made, *aligned])


def contradiction(node: Node) -> str:
    """Return the reason to freeze a node whose tensors cannot be as they say."""
    return f"the ranks around {node.op} `{node.label}` contradict each other"


# -- rewriting -----------------------------------------------------------------------------


def rewrite(node: Node, index: int, array: Array) -> None:
    """Give a node a constant of its own in place of one that others may read too."""
    old = operand(node, index)
    base = old.name if old is not None else f"{node.label}_{index}"
    node.set_input(index, node.graph.add_constant(f"{base}_pruned", array))
    node.graph.drop_constant(old)


def freeze_places(
    node: Node, links: Links, values: Sequence[Value | None], places: Sequence[int], what: str
) -> None:
    """Keep the axes at some places of some tensors; ``what`` says what the operator does there."""
    for value in values:
        for axis in axes_of(value):
            if axis.position in places:
                links.freeze(axis, f"{node.op} `{node.label}` {what}")
