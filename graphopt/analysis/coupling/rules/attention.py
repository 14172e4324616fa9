"""Fused attention: heads, groups of heads, and the positions that are rotated.

Only whole heads go, so the number that scores are divided by stays. Where several heads share keys
and values, all of them go together; where all of them do, each can go alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.links import Producer
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules import rotary
from graphopt.analysis.coupling.rules.alignment import (
    MICROSOFT,
    contradiction,
    is_single,
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

_HEAD_AXIS = 1
"""Of scores, and of keys and values that are kept from one call to the next."""


# -- com.microsoft.Attention ---------------------------------------------------------------


def _couple_packed(node: Node, links: Links) -> None:
    """Couple Attention, whose one weight makes queries, keys and values."""
    source, weight, bias = (operand(node, index) for index in range(3))
    made, heads = result(node), Heads(node, int(node.attribute("num_heads", 0)))
    if source is None or weight is None or made is None or (rank(source), rank(weight)) != (3, 2):
        links.freeze_node(node, contradiction(node))
        return
    width = Axis(weight, 1).size or 0
    sizes = node.attribute("qkv_hidden_sizes") or [width // 3] * 3
    heads.add(made, 2, sizes[2:])
    heads.add(weight, 1, sizes)
    heads.add(bias, 0, sizes)
    heads.add(operand(node, 4), 2)
    heads.add(operand(node, 5), _HEAD_AXIS, shared=True)
    heads.add(result(node, 1), 2)
    if heads.couple(links):
        together(links, node, [Axis(source, 0), Axis(made, 0)])
        links.consume(node, Axis(source, 2), Axis(weight, 0))
        own = None if bias is None else Axis(bias, 0)
        links.producers.append(Producer(node, Axis(weight, 1), own))


def _resize_packed(node: Node, cut: Cut) -> None:
    made, sizes = result(node), node.attribute("qkv_hidden_sizes")
    if made is None:
        return
    left = heads_left(int(node.attribute("num_heads", 0)), made, 2, cut)
    if sizes:
        old = int(node.attribute("num_heads", 0))
        node.set_attribute("qkv_hidden_sizes", [size // old * left for size in sizes])
    node.set_attribute("num_heads", left)


# -- com.microsoft.MultiHeadAttention ------------------------------------------------------


def _couple_many(node: Node, links: Links) -> None:
    """Couple MultiHeadAttention: queries, keys and values, apart or packed head by head."""
    query, key, value, bias = (operand(node, index) for index in range(4))
    made, heads = result(node), Heads(node, int(node.attribute("num_heads", 0)))
    if query is None or made is None or rank(query) not in {3, 5} or rank(made) != 3:
        links.freeze_node(node, contradiction(node))
        return
    heads.add(made, 2)
    for given in (query, key, value):
        heads.add(given, {3: 2, 4: _HEAD_AXIS, 5: 2}.get(rank(given), 9))
    if bias is not None:
        last = Axis(made, 2).size or 0
        first = max(0, (Axis(bias, 0).size or 0) - last) // 2
        heads.add(bias, 0, (first, first, last))
    heads.add(operand(node, 5), _HEAD_AXIS, shared=True)
    for cache in (operand(node, 6), operand(node, 7), *(result(node, i) for i in (1, 2, 3))):
        heads.add(cache, _HEAD_AXIS)
    if heads.couple(links):
        together(links, node, [Axis(query, 0), Axis(made, 0)])


def _resize_many(node: Node, cut: Cut) -> None:
    made = result(node)
    if made is not None:
        _set_heads(node, ("num_heads",), made, 2, cut)


# -- com.microsoft.GroupQueryAttention -----------------------------------------------------


def _couple_grouped(node: Node, links: Links) -> None:
    """Couple GroupQueryAttention: a head of keys goes with all heads that ask it."""
    query, key, value = (operand(node, index) for index in range(3))
    made = result(node)
    count, shared = (int(node.attribute(name, 0)) for name in ("num_heads", "kv_num_heads"))
    scales = [v for v in node.inputs[12:] if v is not None and v.name and not is_single(v)]
    if query is None or made is None or rank(query) != 3 or not shared or scales:
        links.freeze_node(node, f"`{node.label}` is an attention of a kind that is not cut")
        return
    heads = Heads(node, shared)
    heads.add(made, 2)
    heads.add(query, 2, _packed_sizes(Axis(query, 2).size or 0, count, shared, packed=key is None))
    for given in (key, value):
        heads.add(given, {3: 2, 4: _HEAD_AXIS}.get(rank(given), 9))
    for cache in (operand(node, 3), operand(node, 4), *(result(node, i) for i in (1, 2, 3))):
        heads.add(cache, _HEAD_AXIS)
    heads.add(operand(node, 10), _HEAD_AXIS, shared=True)
    heads.add(operand(node, 11), 0)
    if heads.couple(links):
        together(links, node, [Axis(query, 0), Axis(made, 0)])


def _packed_sizes(size: int, count: int, shared: int, *, packed: bool) -> list[int]:
    """Return the parts of the queries, which may hold keys and values too."""
    if not packed:
        return [size]
    width = size // (count + 2 * shared)
    return [width * count, width * shared, width * shared]


def _resize_grouped(node: Node, cut: Cut) -> None:
    made = result(node)
    if made is not None:
        _set_heads(node, ("num_heads", "kv_num_heads"), made, 2, cut)


# -- ai.onnx Attention ---------------------------------------------------------------------


def _couple_standard(node: Node, links: Links) -> None:
    query, key, value = (operand(node, index) for index in range(3))
    made = result(node)
    if query is None or key is None or value is None or made is None or rank(made) not in {3, 4}:
        links.freeze_node(node, contradiction(node))
        return
    place = 2 if rank(made) == 3 else 1
    count, shared = _numbers(node, query, key)
    heads = Heads(node, count if shared == 1 else shared)
    for given in (made, query):
        heads.add(given, place)
    mask = operand(node, 3)
    if rank(mask) > 2:
        heads.add(mask, rank(mask) - 3, shared=True)
    heads.add(result(node, 3), _HEAD_AXIS)
    if shared > 1:
        for given in (key, value):
            heads.add(given, place)
        for cache in (operand(node, 4), operand(node, 5), result(node, 1), result(node, 2)):
            heads.add(cache, _HEAD_AXIS)
    if heads.couple(links):
        together(links, node, [Axis(query, 0), Axis(made, 0)])
        _couple_features(node, links, value, made)


def _numbers(node: Node, query: Value, key: Value) -> tuple[int, int]:
    """Return the number of heads, and of those of keys."""
    if rank(query) == 4:
        return Axis(query, 1).size or 0, Axis(key, 1).size or 0
    return int(node.attribute("q_num_heads", 0)), int(node.attribute("kv_num_heads", 0))


def _couple_features(node: Node, links: Links, value: Value, made: Value) -> None:
    """Tie the features of values to those of the result, where heads have an axis of their own."""
    if rank(made) != 4:
        return
    links.batch(Axis(made, 1))
    caches = [v for v in (operand(node, 5), result(node, 2)) if v is not None]
    together(links, node, [Axis(v, 3) for v in (made, value, *caches)])


def _resize_standard(node: Node, cut: Cut) -> None:
    made = result(node)
    if made is None:
        return
    names = ["q_num_heads"] + ["kv_num_heads"] * (node.attribute("kv_num_heads", 0) > 1)
    _set_heads(node, names, made, 2 if rank(made) == 3 else 1, cut)


def _set_heads(
    node: Node, names: tuple[str, ...] | list[str], made: Value, place: int, cut: Cut
) -> None:
    for name in names:
        if name in node.attribute_names:
            count = int(node.attribute(name))
            node.set_attribute(name, heads_left(count, made, place, cut))


RULES: tuple[CouplingRule, ...] = (
    CouplingRule("Attention", _couple_standard, _resize_standard),
    CouplingRule("Attention", _couple_packed, _resize_packed, MICROSOFT),
    CouplingRule("GroupQueryAttention", _couple_grouped, _resize_grouped, MICROSOFT),
    CouplingRule("MultiHeadAttention", _couple_many, _resize_many, MICROSOFT),
    *rotary.RULES,
)
