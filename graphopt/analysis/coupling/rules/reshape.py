"""Operators that run axes together or take them apart: Reshape, Flatten, DepthToSpace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules import shape_operands
from graphopt.analysis.coupling.rules.alignment import (
    contradiction,
    operand,
    position,
    rank,
    result,
    together,
    whole_numbers,
)
from graphopt.analysis.coupling.rules.regrouping import regroup
from graphopt.analysis.coupling.rules.shape_operands import patch

if TYPE_CHECKING:
    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

AXES_BY_INPUT = 13
"""The first operator set in which Squeeze and Unsqueeze take their axes as an input."""


# -- Reshape and Flatten -------------------------------------------------------------------


def _couple_reshape(node: Node, links: Links) -> None:
    source, made, target = operand(node, 0), result(node), operand(node, 1)
    if source is None or made is None:
        links.freeze_node(node, contradiction(node))
    elif target is None or links.symbols.vector(target) is None:
        links.freeze_node(node, f"Reshape `{node.label}` takes its shape from data")
    else:
        regroup(node, links, source, made)


def _resize_reshape(node: Node, cut: Cut) -> None:
    """Write the new sizes; a 0 and a -1 stay where they still mean the right thing."""
    source, made, target = operand(node, 0), result(node), operand(node, 1)
    if source is None or made is None:
        return
    entries = whole_numbers(target)
    copied = range(0 if node.attribute("allowzero", 0) else rank(source))
    changes = {}
    for place in range(rank(made)):
        follows = place in copied and _loses(cut, source, place) == _loses(cut, made, place)
        entry = entries[place] if entries is not None and place < len(entries) else None
        fits = entry == -1 or (entry == 0 and follows)
        touched = cut.keep(made, place) is not None or (place in copied and not follows)
        size = cut.size(made, place)
        if touched and not fits and size is not None:
            changes[place] = size
    patch(node, 1, changes)


def _loses(cut: Cut, value: Value, place: int) -> int:
    keep = cut.keep(value, place)
    return 0 if keep is None else int((~keep).sum())


def _couple_flatten(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    if source is None or made is None or rank(made) != 2:
        links.freeze_node(node, contradiction(node))
    else:
        regroup(node, links, source, made)


# -- Squeeze and Unsqueeze -----------------------------------------------------------------


def _axes(node: Node) -> list[int] | None:
    """Return the axes that a node names; None where it names none, or computes them."""
    given = operand(node, 1)
    return whole_numbers(given) if given is not None else node.attribute("axes")


def _couple_squeeze(node: Node, links: Links) -> None:
    long, short = operand(node, 0), result(node)
    if node.op == "Unsqueeze":
        long, short = short, long
    if long is None or short is None:
        links.freeze_node(node, contradiction(node))
        return
    axes = _axes(node)
    if axes is None and operand(node, 1) is None and node.op == "Squeeze":
        axes = [i for i, size in enumerate(long.shape or ()) if size == 1]
    places = {position(axis, rank(long)) for axis in axes or ()}
    left = [i for i in range(rank(long)) if i not in places]
    if axes is None or len(left) != rank(short):
        links.freeze_node(node, f"the axes of {node.op} `{node.label}` are not known")
        return
    for place, origin in enumerate(left):
        together(links, node, [Axis(long, origin), Axis(short, place)])


def _resize_squeeze(node: Node, cut: Cut) -> None:
    """Name the axes that go: one that is cut to a single index is not meant."""
    source = operand(node, 0)
    if source is None or operand(node, 1) is not None or node.attribute("axes") is not None:
        return
    axes = [i for i, size in enumerate(source.shape or ()) if size == 1]
    if node.graph.opset < AXES_BY_INPUT:
        node.set_attribute("axes", axes)
    else:
        array = np.array(axes, dtype=np.int64)
        node.set_input(1, node.graph.add_constant(f"{node.label}_axes", array))


# -- DepthToSpace and SpaceToDepth ---------------------------------------------------------


def _couple_depth(node: Node, links: Links) -> None:
    """Couple the channels that become one another's neighbours in space."""
    deep, flat = operand(node, 0), result(node)
    if node.op == "SpaceToDepth":
        deep, flat = flat, deep
    if deep is None or flat is None or rank(deep) != 4 or rank(flat) != 4:
        links.freeze_node(node, contradiction(node))
        return
    area = int(node.attribute("blocksize", 1)) ** 2
    channels = Axis(flat, 1).size
    together(links, node, [Axis(deep, 0), Axis(flat, 0)])
    if channels is None or Axis(deep, 1).size != area * channels:
        for axis in (Axis(deep, 1), Axis(flat, 1)):
            links.freeze(axis, f"the channels of {node.op} `{node.label}` are not known")
        return
    links.tie(Axis(deep, 1), Axis(flat, 1), of_other=_channels(node, channels, area))


def _channels(node: Node, count: int, area: int) -> np.ndarray[Any, Any]:
    """Return for each deep channel the flat one that it holds a part of."""
    blocked = node.op == "DepthToSpace" and node.attribute("mode", "DCR") == "CRD"
    numbers = np.arange(count)
    return np.repeat(numbers, area) if blocked else np.tile(numbers, area)


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("DepthToSpace", _couple_depth),
    CouplingRule("Flatten", _couple_flatten),
    CouplingRule("Reshape", _couple_reshape, _resize_reshape),
    CouplingRule("SpaceToDepth", _couple_depth),
    CouplingRule("Squeeze", _couple_squeeze, _resize_squeeze),
    CouplingRule("Unsqueeze", _couple_squeeze),
    *shape_operands.RULES,
)
