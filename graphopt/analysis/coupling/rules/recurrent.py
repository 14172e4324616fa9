"""LSTM, GRU and RNN: inputs and hidden units, in both directions.

A hidden unit is a row of every gate, a column of the recurrent weight, and an index of every state.
Both directions have as many, so a unit goes from both at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from graphopt.analysis.coupling.axes import Axis
from graphopt.analysis.coupling.links import Producer
from graphopt.analysis.coupling.rule import CouplingRule
from graphopt.analysis.coupling.rules.alignment import operand, rank

if TYPE_CHECKING:
    from graphopt.analysis.coupling.cut import Cut
    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

X, W, R, B, LENGTHS, PEEPHOLES = 0, 1, 2, 3, 4, 7
"""Positions of inputs; the states come in between."""

STATES = (5, 6)
"""Positions of the states before the first step; only an LSTM has two."""

PEEPHOLE_GATES = 3


def _couple(node: Node, links: Links, gates: int) -> None:
    if not _is_sound(node, gates):
        reason = f"the sizes around {node.op} `{node.label}` contradict each other"
        links.freeze_node(node, reason)
        return
    _couple_inputs(node, links)
    _couple_units(node, links, gates)
    _couple_batch(node, links)


def _couple_inputs(node: Node, links: Links) -> None:
    """Couple the features that enter with the columns that sum over them."""
    source, weight = _axis(node, X, 2), _axis(node, W, 2)
    assert source is not None
    assert weight is not None
    if weight.value.is_constant:
        links.consume(node, source, weight)
        return
    links.tie(source, weight)
    links.consume(node, source)
    links.consume(node, weight)


def _couple_units(node: Node, links: Links, gates: int) -> None:
    """Couple everything that is as long as the hidden units, once for each gate."""
    units = _axis(node, R, 2)
    assert units is not None
    for axis, times in _unit_axes(node, gates):
        links.tie(axis, units, None, np.tile(np.arange(units.size or 0), times))
    if units.value.is_constant:
        links.consume(node, None, units)
    else:
        links.consume(node, units)
    made = _axis(node, W, 1)
    if made is not None and made.value.is_constant:
        links.producers.append(Producer(node, made, _axis(node, B, 1)))


def _unit_axes(node: Node, gates: int) -> list[tuple[Axis, int]]:
    """Return the axes of hidden units, with how often each of them runs through all units."""
    given = [
        (_axis(node, W, 1), gates),
        (_axis(node, R, 1), gates),
        (_axis(node, B, 1), 2 * gates),
        (_axis(node, PEEPHOLES, 1), PEEPHOLE_GATES),
        *((_axis(node, index, 2), 1) for index in STATES),
    ]
    made = [(Axis(value, rank(value) - 1), 1) for value in _made(node)]
    return [(axis, times) for axis, times in given if axis is not None] + made


def _couple_batch(node: Node, links: Links) -> None:
    """Tie the axes of samples, which never meet; steps and directions stay as they are."""
    first = node.attribute("layout", 0) == 1
    source = _axis(node, X, 0 if first else 1)
    assert source is not None
    others = [_axis(node, index, 0 if first else 1) for index in STATES]
    others.append(_axis(node, LENGTHS, 0))
    for index, value in enumerate(node.outputs):
        if value.name:
            others.append(Axis(value, _batch_axis(index, first)))
    for axis in others:
        if axis is not None and axis.size == source.size:
            links.tie(source, axis)


def _batch_axis(index: int, first: bool) -> int:
    """Return the axis of samples of an output."""
    if first:
        return 0
    return 2 if index == 0 else 1


def _is_sound(node: Node, gates: int) -> bool:
    """Whether ranks and sizes fit each other."""
    if not _has_ranks(node):
        return False
    units, entering, weight = _axis(node, R, 2), _axis(node, X, 2), _axis(node, W, 2)
    if not units or not units.size or not entering or not weight:
        return False
    if None not in (entering.size, weight.size) and entering.size != weight.size:
        return False
    return all(a.size in (None, units.size * n) for a, n in _unit_axes(node, gates))


def _has_ranks(node: Node) -> bool:
    """Whether every tensor around a node has as many axes as the operator wants."""
    wanted = {X: 3, W: 3, R: 3, B: 2, LENGTHS: 1, PEEPHOLES: 2, **dict.fromkeys(STATES, 3)}
    given = [(operand(node, index), axes) for index, axes in wanted.items()]
    made = [(value, 3 if index else 4) for index, value in enumerate(node.outputs) if value.name]
    return all(value is None or rank(value) == axes for value, axes in [*given, *made])


def _resize(node: Node, cut: Cut) -> None:
    """Tell the operator how many units are left."""
    units = _axis(node, R, 2)
    if units is not None and cut.keep(*units) is not None:
        node.set_attribute("hidden_size", cut.size(*units))


# -- reading nodes -------------------------------------------------------------------------


def _axis(node: Node, index: int, position: int) -> Axis | None:
    """Return an axis of an input; None where the input is omitted."""
    value = operand(node, index)
    return None if value is None else Axis(value, position)


def _made(node: Node) -> list[Value]:
    return [value for value in node.outputs if value.name]


RULES: tuple[CouplingRule, ...] = tuple(
    CouplingRule(op, partial(_couple, gates=gates), _resize)
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
)
