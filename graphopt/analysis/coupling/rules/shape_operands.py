"""Shapes that graphs compute: who asks for one, and how one is corrected where axes shrink.

A graph may ask a tensor how long it is, and use that in any way: as the target of a reshape, or as
the number that scores are divided by. So Shape goes on telling what it told before something was
removed, and whoever makes a tensor that shrinks from a shape corrects what concerns that axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import operand, rank, result, rewrite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]


def patch(node: Node, index: int, changes: Mapping[int, int]) -> None:
    """Change elements of a shape that a node reads, be it constant or computed.

    Args:
        node: the reader.
        index: of the input.
        changes: new elements by position; positions that it does not have are left out.
    """
    value = operand(node, index)
    length = Axis(value, 0).size if value is not None else None
    if value is None or length is None:
        return
    wanted = {place: size for place, size in changes.items() if 0 <= place < length}
    if value.is_constant:
        array = value.array().copy()
        array[list(wanted)] = list(wanted.values())
        if not np.array_equal(array, value.array()):
            rewrite(node, index, array)
    elif wanted:
        node.set_input(index, _patched(value, wanted, length))
        node.graph.sort()


def _patched(value: Value, wanted: Mapping[int, int], length: int) -> Value:
    """Return a computed shape with some of its elements replaced."""
    graph = value.graph
    parts = []
    for places in _runs(length, wanted):
        if places[0] in wanted:
            sizes = np.array([wanted[place] for place in places], dtype=np.int64)
            parts.append(graph.add_constant(f"{value.name}_sizes", sizes))
            continue
        picked = graph.add_constant(f"{value.name}_places", np.array(places, dtype=np.int64))
        name = graph.unique_name(f"{value.name}_kept")
        parts.append(graph.add_node("Gather", [value, picked], [name], {"axis": 0}).outputs[0])
        parts[-1].dtype, parts[-1].shape = value.dtype, (len(places),)
    if len(parts) == 1:
        return parts[0]
    name = graph.unique_name(f"{value.name}_pruned")
    made = graph.add_node("Concat", parts, [name], {"axis": 0}).outputs[0]
    made.dtype, made.shape = value.dtype, (length,)
    return made


def _runs(length: int, wanted: Mapping[int, int]) -> list[list[int]]:
    """Return all positions, apart where replaced ones and others meet."""
    runs: list[list[int]] = []
    for place in range(length):
        if runs and (place in wanted) == (runs[-1][-1] in wanted):
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


# -- Shape ---------------------------------------------------------------------------------


def _couple_shape(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    if source is None or made is None or made.is_output or made.graph is not node.graph:
        links.freeze_node(node, f"the model returns the size that Shape `{node.label}` tells")
        return
    for place in range(rank(source)):
        links.ignore(Axis(source, place))


def _resize_shape(node: Node, cut: Cut) -> None:
    """Make Shape tell the old sizes."""
    source, made = operand(node, 0), result(node)
    if source is None or made is None:
        return
    window = range(rank(source))[node.attribute("start", 0) : node.attribute("end", None)]
    sizes = {
        place: Axis(source, axis).size or 0
        for place, axis in enumerate(window)
        if cut.keep(source, axis) is not None
    }
    readers = made.uses
    if not sizes or not readers:
        return
    old = _patched(made, sizes, len(window))
    for reader, index in readers:
        reader.set_input(index, old)
    node.graph.sort()


# -- tensors of a given shape --------------------------------------------------------------


def _couple_filled(node: Node, links: Links) -> None:
    """Let every axis shrink: all elements are the same."""
    made = result(node)
    for place in range(rank(made)):
        links.ignore(Axis(made, place))  # type: ignore[arg-type]


def _resize_filled(node: Node, cut: Cut) -> None:
    made = result(node)
    if made is not None:
        patch(node, 0, new_sizes(made, cut))


def new_sizes(made: Value, cut: Cut) -> dict[int, int]:
    """Return the new size of each axis that shrinks, by position."""
    kept = ((place, cut.keep(made, place)) for place in range(rank(made)))
    return {place: int(keep.sum()) for place, keep in kept if keep is not None}


def _couple_constant(node: Node, links: Links) -> None:
    """Let whoever reads a constant decide."""
    made = result(node)
    if made is None or made.tensor is None:
        links.freeze_node(node, f"Constant `{node.label}` is of a kind that is not cut")
        return
    for place in range(rank(made)):
        links.ignore(Axis(made, place))


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("Constant", _couple_constant),
    CouplingRule("ConstantOfShape", _couple_filled, _resize_filled),
    CouplingRule("Shape", _couple_shape, _resize_shape),
)
