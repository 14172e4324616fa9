"""Reductions, softmax, and what sorts or searches along an axis.

A sum over an axis does not notice that a zero is gone, so whoever sums over an axis reads it as a
matrix product does. A mean, a maximum and the logarithm of a sum of exponentials do notice: units
can go, but what is left changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    contradiction,
    freeze_places,
    operand,
    position,
    rank,
    result,
    same_axes,
    together,
    whole_numbers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node

_SUMS = frozenset({"ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"})
"""Reductions to which a zero adds nothing."""

_CHANGED = {
    "ReduceMean": "is the mean of fewer elements",
    "ReduceMax": "is the largest of fewer elements",
    "ReduceMin": "is the smallest of fewer elements",
    "ReduceLogSumExp": "adds up the exponentials of fewer elements",
}
"""Reductions that mean the same with fewer elements, and change all the same."""

JOINT_SOFTMAX = 13
"""Before this operator set softmax runs over all axes from the given one on."""


# -- reductions ----------------------------------------------------------------------------


def _reduce(node: Node, links: Links) -> None:
    """Couple Reduce*: axes that stay go through, those that are reduced are read."""
    source, made = operand(node, 0), result(node)
    reduced = _reduced(node)
    if source is None or made is None or reduced is None:
        links.freeze_node(node, f"over which axes {node.op} `{node.label}` goes is not known")
        return
    places = _places_after(rank(source), reduced, bool(node.attribute("keepdims", 1)))
    if rank(made) != rank(source) - places.count(None):
        links.freeze_node(node, contradiction(node))
        return
    for place, after in enumerate(places):
        if place in reduced:
            _read(node, links, Axis(source, place))
        elif after is not None:
            together(links, node, [Axis(source, place), Axis(made, after)])


def _places_after(count: int, reduced: Sequence[int], keepdims: bool) -> list[int | None]:
    """Return which axis of the result each axis becomes; None where it is dropped."""
    if keepdims:
        return list(range(count))
    left = iter(range(count))
    return [None if place in reduced else next(left) for place in range(count)]


def _reduced(node: Node) -> list[int] | None:
    """Return the positions that are reduced; None where that cannot be told."""
    given = node.attribute("axes")
    if given is None and operand(node, 1) is not None:
        given = whole_numbers(operand(node, 1))
        if given is None:
            return None
    count = rank(operand(node, 0))
    if not given:
        return [] if node.attribute("noop_with_empty_axes", 0) else list(range(count))
    places = [position(axis, count) for axis in given]
    found = [place for place in places if place is not None]
    return found if len(found) == len(places) else None


def _read(node: Node, links: Links, axis: Axis) -> None:
    if node.op in _SUMS:
        links.consume(node, axis)
    elif node.op in _CHANGED:
        links.consume(node, axis)
        links.approximate(axis, f"{node.op} `{node.label}` {_CHANGED[node.op]}")
    else:
        links.freeze(axis, f"{node.op} `{node.label}` multiplies along it")


# -- along one axis ------------------------------------------------------------------------


def _keep_others(node: Node, links: Links, places: Sequence[int], what: str) -> None:
    source = operand(node, 0)
    found = [result(node, index) for index in range(len(node.outputs))]
    results = [value for value in found if value is not None]
    if not places or any(rank(value) != rank(source) for value in results):
        links.freeze_node(node, f"{node.op} `{node.label}` {what}")
        return
    if same_axes(links, node, [source, *results], but=places):
        freeze_places(node, links, [source, *results], places, what)


def _arg(node: Node, links: Links) -> None:
    """Couple ArgMax and ArgMin, whose result counts along the axis."""
    source, made = operand(node, 0), result(node)
    place = position(node.attribute("axis", 0), rank(source))
    keepdims = bool(node.attribute("keepdims", 1))
    if source is None or made is None or place is None:
        links.freeze_node(node, contradiction(node))
        return
    places = _places_after(rank(source), [place], keepdims)
    if rank(made) != rank(source) - places.count(None):
        links.freeze_node(node, contradiction(node))
        return
    for before, after in enumerate(places):
        if before == place:
            links.freeze(Axis(source, before), f"{node.op} `{node.label}` returns an index of it")
        elif after is not None:
            together(links, node, [Axis(source, before), Axis(made, after)])


def _softmax(node: Node, links: Links) -> None:
    source = operand(node, 0)
    joint = node.graph.opset < JOINT_SOFTMAX
    place = position(node.attribute("axis", 1 if joint else -1), rank(source))
    last = rank(source) if joint else (place or 0) + 1
    places = [] if place is None else list(range(place, last))
    _keep_others(node, links, places, "makes its elements add up to one")


def _running(node: Node, links: Links) -> None:
    """Couple CumSum and CumProd, whose axis is an input."""
    given = whole_numbers(operand(node, 1))
    place = position(given[0] if given else None, rank(operand(node, 0)))
    _keep_others(node, links, [] if place is None else [place], "runs along it")


def _top(node: Node, links: Links) -> None:
    place = position(node.attribute("axis", -1), rank(operand(node, 0)))
    _keep_others(node, links, [] if place is None else [place], "sorts along it")


def _search(node: Node, links: Links) -> None:
    links.freeze_node(node, f"what {node.op} `{node.label}` finds depends on the data")


RULES: tuple[CouplingRule, ...] = (
    *(CouplingRule(op, _reduce) for op in (*sorted(_SUMS), *_CHANGED, "ReduceProd")),
    *(CouplingRule(op, _arg) for op in ("ArgMax", "ArgMin")),
    *(CouplingRule(op, _softmax) for op in ("Hardmax", "LogSoftmax", "Softmax")),
    *(CouplingRule(op, _running) for op in ("CumProd", "CumSum")),
    CouplingRule("TopK", _top),
    *(CouplingRule(op, _search) for op in ("NonMaxSuppression", "NonZero", "Unique")),
)
