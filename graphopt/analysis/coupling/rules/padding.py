"""Pad: what is put around an axis is units of its own, which can go one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import (
    contradiction,
    operand,
    position,
    rank,
    result,
    together,
    whole_numbers,
)
from graphopt.analysis.coupling.rules.shape_operands import patch

if TYPE_CHECKING:
    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node

    Array = np.ndarray[Any, Any]


def _pads(node: Node) -> dict[int, tuple[int, int]] | None:
    """Return {axis: (in front, behind)} for the axes that are padded; None when not known."""
    numbers = whole_numbers(operand(node, 1)) if operand(node, 1) else node.attribute("pads")
    axes = _axes(node)
    if numbers is None or axes is None or len(numbers) != 2 * len(axes):
        return None
    pairs = zip(axes, numbers[: len(axes)], numbers[len(axes) :], strict=True)
    return {axis: (front, behind) for axis, front, behind in pairs if front or behind}


def _axes(node: Node) -> list[int] | None:
    """Return the axes that the pads are for, in their order; None when not known."""
    count = rank(operand(node, 0))
    given = operand(node, 3)
    if given is None:
        return list(range(count))
    places = [position(axis, count) for axis in whole_numbers(given) or ()]
    known = [place for place in places if place is not None]
    return known if known and len(set(known)) == len(places) else None


def _origins(size: int, front: int, behind: int) -> Array:
    """Return the index that each padded one comes from, -1 for new ones; negative pads crop."""
    inner = np.arange(max(0, -front), size - max(0, -behind))
    return np.pad(inner, (max(0, front), max(0, behind)), constant_values=-1)


def _couple_pad(node: Node, links: Links) -> None:
    source, made, pads = operand(node, 0), result(node), _pads(node)
    if source is None or made is None or rank(source) != rank(made):
        links.freeze_node(node, contradiction(node))
        return
    if pads is None:
        links.freeze_node(node, f"Pad `{node.label}` pads as much as data says")
        return
    for place in range(rank(made)):
        one, other = Axis(source, place), Axis(made, place)
        if place not in pads:
            together(links, node, [one, other])
        else:
            _couple_padded(node, links, one, other, pads[place])


def _couple_padded(node: Node, links: Links, one: Axis, other: Axis, pads: tuple[int, int]) -> None:
    origins = None if one.size is None else _origins(one.size, *pads)
    mirrors = node.attribute("mode", "constant") != "constant"
    if origins is None or mirrors or other.size != origins.size:
        for axis in (one, other):
            links.freeze(axis, f"Pad `{node.label}` pads it with {'itself' if mirrors else 'more'}")
        return
    known = np.flatnonzero(origins >= 0)
    links.tie(one, other, origins[known], known)


def _resize_pad(node: Node, cut: Cut) -> None:
    """Pad by as much as is left of what was put in front and behind."""
    source, made, pads, axes = operand(node, 0), result(node), _pads(node), _axes(node)
    if source is None or made is None or pads is None or axes is None:
        return
    changes = {}
    for place, (front, behind) in pads.items():
        entry = axes.index(place)
        keeps = (cut.keep(made, place), cut.keep(source, place))
        changes[entry] = _left(front, keeps)
        changes[entry + len(axes)] = _left(
            behind, tuple(None if keep is None else keep[::-1] for keep in keeps)
        )
    if operand(node, 1) is not None:
        patch(node, 1, changes)
    else:
        numbers = list(node.attribute("pads"))
        node.set_attribute("pads", [changes.get(i, n) for i, n in enumerate(numbers)])


def _left(pad: int, keeps: tuple[Array | None, ...]) -> int:
    """Return a pad after a cut of (the padded, the given) axis, both seen from that end."""
    keep = keeps[0] if pad > 0 else keeps[1]
    if keep is None:
        return pad
    return int(keep[:pad].sum()) if pad > 0 else -int(keep[:-pad].sum())


RULES: tuple[CouplingRule, ...] = (CouplingRule("Pad", _couple_pad, _resize_pad),)
