"""Micro-models: a chain of equal units, in two lengths whose times differ by units alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.profiling.builder import Builder, Flow, Precision
from graphopt.cost.shapes import elements
from graphopt.cost.work import macs_of
from graphopt.ir import tensor_bytes

if TYPE_CHECKING:
    from graphopt.ir import Graph

Unit = Callable[[Builder, list[Flow]], Flow]
"""Adds one unit to a network; the first of its inputs is what the unit before it made."""

_MEASURABLE_US = 200.0
"""Two lengths of a chain should differ by this much: noise of timing is a few microseconds."""

_LONG_US = 6e3
_LONGEST = 8
_TINY_US = 5.0
_LONGEST_TINY = 32
"""Units of a chain at the most; more where one of them takes about as long as starting it."""

_MOST_WEIGHTS = 6 << 20
"""Bytes of weights in a chain, where one unit does not need more."""

_MACS_PER_US = 20_000.0
_ELEMENTS_PER_US = 2_000.0
"""Rough speeds of one core; they only decide how often a unit is repeated."""


@dataclass(frozen=True)
class Micro:
    """A model of one kind of kernel.

    Args:
        name: unique: class, precision, number.
        precision: that it is built in.
        inputs: sizes of its inputs; the first runs through the chain.
        unit: adds one unit.
        is_fan: units stand beside each other on the same input, each with an output of its own.
        parallel: whether it is measured with several threads as well.
        machines: x86 or arm, where only one of them wants it in its precision; else empty.
        near_one: its inputs are close to 1, where repeated powers and quotients stay finite.
    """

    name: str
    precision: Precision
    inputs: tuple[tuple[int, ...], ...]
    unit: Unit
    is_fan: bool = False
    parallel: bool = False
    machines: str = ""
    near_one: bool = False

    def build(self, count: int) -> Builder:
        """Return a finished network of ``count`` units; they are numbered from 1."""
        b = Builder(self.name, self.precision)
        low, high = (0.9, 1.1) if self.near_one else (-1.0, 1.0)
        flows = [b.input(*shape, low=low, high=high) for shape in self.inputs]
        flows[0] = b.settled(flows[0])
        outputs: list[Flow] = []
        for _ in range(count):
            b.next_unit()
            made = self.unit(b, flows)
            if self.is_fan:
                outputs.append(made)
            else:
                flows = [b.settled(made), *flows[1:]]
        b.next_unit()
        b.finish(*(outputs or flows[:1]))
        return b

    def lengths(self) -> tuple[int, int]:
        """Return how many units its two models have."""
        single = self.build(1).graph
        once = rough_us(single)
        more = math.ceil(_MEASURABLE_US / max(once, 1.0))
        longest = _LONGEST_TINY if once < _TINY_US else _LONGEST
        more = min(max(more, 2 if once < _LONG_US else 1), longest)
        room = _MOST_WEIGHTS // max(tensor_bytes(single), 1) - 1
        return 1, 1 + max(1, min(more, room))


def rough_us(graph: Graph) -> float:
    """Return about how long one core needs, within a factor of a few."""
    total = 0.0
    for node in graph.nodes():
        written = sum(elements(v) for v in node.outputs)
        total += macs_of(node) / _MACS_PER_US + written / _ELEMENTS_PER_US
    return total
