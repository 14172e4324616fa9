"""Operators that move whole slices of one axis: Concat, Split, Slice, Transpose, Pad, Tile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules import padding, slicing
from graphopt.analysis.coupling.rules.alignment import (
    contradiction,
    operand,
    position,
    rank,
    result,
    rewrite,
    same_axes,
    together,
    whole_numbers,
)
from graphopt.analysis.coupling.rules.shape_operands import new_sizes, patch

if TYPE_CHECKING:
    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

SIZES_BY_INPUT = 13
"""The first operator set in which Split takes its sizes as an input."""


def _couple_transpose(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    order = node.attribute("perm") or list(range(rank(source)))[::-1]
    if source is None or made is None or sorted(order) != list(range(rank(made))):
        links.freeze_node(node, contradiction(node))
        return
    for place, origin in enumerate(order):
        together(links, node, [Axis(source, origin), Axis(made, place)])


# -- Concat --------------------------------------------------------------------------------


def _couple_concat(node: Node, links: Links) -> None:
    made = result(node)
    given = [value for value in node.inputs if value is not None and value.name]
    axis = position(node.attribute("axis", 1), rank(made))
    if made is None or axis is None or not same_axes(links, node, (*given, made), but=(axis,)):
        links.freeze_node(node, contradiction(node))
        return
    sizes = [Axis(value, axis).size for value in given]
    whole = Axis(made, axis)
    if whole.size is None or None in sizes or sum(size or 0 for size in sizes) != whole.size:
        for value in (*given, made):
            links.freeze(Axis(value, axis), f"Concat `{node.label}` joins sizes that are not known")
        return
    start = 0
    for value, size in zip(given, sizes, strict=True):
        links.tie(Axis(value, axis), whole, of_other=np.arange(start, start + (size or 0)))
        start += size or 0


# -- Split ---------------------------------------------------------------------------------


def _split_axis(node: Node) -> int | None:
    return position(node.attribute("axis", 0), rank(operand(node, 0)))


def _split_sizes(node: Node, whole: int) -> list[int] | None:
    """Return how long the parts are, those that nobody asks for included."""
    count = len(node.outputs)
    given = operand(node, 1)
    sizes = whole_numbers(given) if given is not None else node.attribute("split")
    if given is None and sizes is None:
        longest = -(-whole // count)
        sizes = [max(0, min(longest, whole - longest * i)) for i in range(count)]
    return sizes if sizes is not None and len(sizes) == count and sum(sizes) == whole else None


def _couple_split(node: Node, links: Links) -> None:
    source, axis = operand(node, 0), _split_axis(node)
    parts = [value for value in node.outputs if value.name]
    if source is None or axis is None:
        links.freeze_node(node, contradiction(node))
        return
    if not same_axes(links, node, (source, *parts), but=(axis,)):
        return
    whole = Axis(source, axis)
    sizes = None if whole.size is None else _split_sizes(node, whole.size)
    known = sizes is not None and all(
        Axis(part, axis).size in {None, size}
        for part, size in zip(node.outputs, sizes, strict=True)
        if part.name
    )
    if sizes is None or not known:
        for value in (source, *parts):
            links.freeze(Axis(value, axis), f"Split `{node.label}` makes parts of unknown sizes")
        return
    start = 0
    for part, size in zip(node.outputs, sizes, strict=True):
        if part.name and size:
            links.tie(whole, Axis(part, axis), np.arange(start, start + size))
        start += size


def _resize_split(node: Node, cut: Cut) -> None:
    """Say how long each part is now: equal parts need not lose as much."""
    source, axis = operand(node, 0), _split_axis(node)
    keep = cut.keep(source, axis) if source is not None and axis is not None else None
    sizes = None if keep is None else _split_sizes(node, keep.size)
    if keep is None or sizes is None:
        return
    ends = np.cumsum(sizes)
    kept = [int(keep[end - size : end].sum()) for size, end in zip(sizes, ends, strict=True)]
    node.set_attribute("num_outputs", None)
    if node.graph.opset >= SIZES_BY_INPUT:
        rewrite(node, 1, np.array(kept, dtype=np.int64))
    else:
        node.set_attribute("split", kept)


# -- Expand and Tile -----------------------------------------------------------------------


def _couple_expand(node: Node, links: Links) -> None:
    source, made, target = operand(node, 0), result(node), operand(node, 1)
    if source is None or made is None or target is None or rank(source) > rank(made):
        links.freeze_node(node, contradiction(node))
    elif links.symbols.vector(target) is None:
        links.freeze_node(node, f"Expand `{node.label}` takes its shape from data")
    else:
        _couple_repeated(node, links, source, made)


def _couple_repeated(node: Node, links: Links, source: Value, made: Value) -> None:
    """Couple a tensor with copies of itself; copies of a single index may be fewer."""
    ahead = rank(made) - rank(source)
    for place in range(rank(made)):
        copies = Axis(made, place)
        one = Axis(source, place - ahead) if place >= ahead else None
        if one is None or one.size == 1:
            links.ignore(copies)
        elif one.size and copies.size and copies.size % one.size == 0:
            links.tie(copies, one, of_other=np.arange(copies.size) % one.size)
        else:
            together(links, node, [copies, one])


def _resize_expand(node: Node, cut: Cut) -> None:
    """Write the new sizes; a 1 goes on meaning whatever the input has."""
    made, target = result(node), operand(node, 1)
    length = Axis(target, 0).size if target is not None else None
    if made is None or length is None:
        return
    entries = whole_numbers(target)
    ahead = rank(made) - length
    changes = {place - ahead: size for place, size in new_sizes(made, cut).items()}
    if entries is not None:
        changes = {i: size for i, size in changes.items() if 0 <= i < length and entries[i] != 1}
    patch(node, 1, changes)


def _couple_tile(node: Node, links: Links) -> None:
    source, made, repeats = operand(node, 0), result(node), operand(node, 1)
    if source is None or made is None or rank(source) != rank(made) or node.graph.opset < 6:
        links.freeze_node(node, contradiction(node))
    elif repeats is None or links.symbols.vector(repeats) is None:
        links.freeze_node(node, f"Tile `{node.label}` repeats as often as data says")
    else:
        _couple_repeated(node, links, source, made)


def _resize_tile(node: Node, cut: Cut) -> None:
    """Repeat an axis of one index less often; others repeat what is left of them."""
    source, made = operand(node, 0), result(node)
    if source is not None and made is not None:
        sizes = new_sizes(made, cut).items()
        patch(node, 1, {place: size for place, size in sizes if Axis(source, place).size == 1})


# -- what leaves most axes alone -----------------------------------------------------------


def _couple_reversed(node: Node, links: Links) -> None:
    """Couple ReverseSequence: along time, by an amount for each of the batch."""
    source, made, amounts = operand(node, 0), result(node), operand(node, 1)
    batch = position(node.attribute("batch_axis", 1), rank(source))
    time = position(node.attribute("time_axis", 0), rank(source))
    if source is None or made is None or amounts is None or batch is None or time is None:
        links.freeze_node(node, contradiction(node))
    elif same_axes(links, node, (source, made), but=(time,)):
        together(links, node, [Axis(source, batch), Axis(amounts, 0)])


def _couple_triangle(node: Node, links: Links) -> None:
    """Couple Trilu, whose last two axes are compared with each other."""
    last = rank(operand(node, 0))
    same_axes(links, node, (operand(node, 0), result(node)), but=(last - 1, last - 2))


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("Concat", _couple_concat),
    CouplingRule("Expand", _couple_expand, _resize_expand),
    CouplingRule("ReverseSequence", _couple_reversed),
    CouplingRule("Split", _couple_split, _resize_split),
    CouplingRule("Tile", _couple_tile, _resize_tile),
    CouplingRule("Transpose", _couple_transpose),
    CouplingRule("Trilu", _couple_triangle),
    *padding.RULES,
    *slicing.RULES,
)
