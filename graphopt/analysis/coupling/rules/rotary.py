"""RotaryEmbedding: what is rotated goes in pairs, or by whole heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    MICROSOFT,
    contradiction,
    operand,
    rank,
    result,
    together,
)
from graphopt.analysis.coupling.rules.heads import Heads, heads_left

if TYPE_CHECKING:
    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]


def _tables(node: Node) -> tuple[Value | None, Value | None]:
    """Return the cosines and the sines."""
    first = 2 if node.domain == MICROSOFT else 1
    return operand(node, first), operand(node, first + 1)


def _couple(node: Node, links: Links) -> None:
    source, made = operand(node, 0), result(node)
    if source is None or made is None or rank(source) not in {3, 4} or rank(made) != rank(source):
        links.freeze_node(node, contradiction(node))
        return
    for place in range(rank(source) - 1):
        together(links, node, [Axis(source, place), Axis(made, place)])
    if rank(source) == 3:
        _couple_heads(node, links, source, made)
    else:
        _couple_pairs(node, links, source, made)


def _couple_heads(node: Node, links: Links, source: Value, made: Value) -> None:
    """Couple [batch, time, heads x features] by whole heads."""
    size, half = Axis(source, 2).size, _width(node)
    count = int(node.attribute("num_heads", 0))
    if not count and size and half and not node.attribute("rotary_embedding_dim", 0):
        count = size // (2 * half)
    heads = Heads(node, count)
    for value in (source, made):
        heads.add(value, 2)
    heads.couple(links)


def _width(node: Node) -> int | None:
    table = _tables(node)[0]
    return Axis(table, rank(table) - 1).size if table is not None and rank(table) else None


def _couple_pairs(node: Node, links: Links, source: Value, made: Value) -> None:
    """Couple [batch, heads, time, features]: both of a pair, and the angle that turns them."""
    one, other, half = Axis(source, 3), Axis(made, 3), _width(node)
    partial = node.attribute("rotary_embedding_dim", 0) not in {0, one.size}
    tables = [table for table in _tables(node) if table is not None]
    if partial or half is None or one.size != 2 * half or other.size != one.size:
        for axis in (one, other):
            links.freeze(axis, f"RotaryEmbedding `{node.label}` turns a part of it")
        return
    numbers = np.arange(half)
    pairs = np.repeat(numbers, 2) if node.attribute("interleaved", 0) else np.tile(numbers, 2)
    links.tie(one, other)
    for table in tables:
        if Axis(table, rank(table) - 1).size == half:
            links.tie(one, Axis(table, rank(table) - 1), of_other=pairs)


def _resize(node: Node, cut: Cut) -> None:
    made, count = result(node), int(node.attribute("num_heads", 0))
    if made is not None and count:
        place = 2 if rank(made) == 3 else 1
        node.set_attribute("num_heads", heads_left(count, made, place, cut))
    width = node.attribute("rotary_embedding_dim", 0)
    if made is not None and rank(made) == 4 and width:
        node.set_attribute("rotary_embedding_dim", heads_left(width, made, 3, cut))


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("RotaryEmbedding", _couple, _resize),
    CouplingRule("RotaryEmbedding", _couple, _resize, MICROSOFT),
)
