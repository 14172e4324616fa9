"""Pad once instead of twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.analysis import integers, only_consumer
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.joining import join_chains
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context, PassResult

_INPUTS_SINCE = 11


@dataclass(frozen=True)
class JoinPads:
    """Add the widths of two Pads with the same constant value; neither may cut."""

    name: ClassVar[str] = "join-pads"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Join each Pad with the one before it, in order."""
        return join_chains(graph, "Pad", _join, since=_INPUTS_SINCE)


def _join(graph: Graph, node: Node) -> bool:
    before = made_by(node.inputs[0], "Pad")
    if before is None or only_consumer(before.outputs[0]) is not node:
        return False
    widths = [_widths(n) for n in (before, node)]
    values = [_value(n) for n in (before, node)]
    if widths[0] is None or widths[1] is None or values[0] is None or values[0] != values[1]:
        return False
    if min(*widths[0], *widths[1]) < 0:
        return False
    total = np.add(widths[0], widths[1]).astype(np.int64)
    made = graph.add_constant(f"{node.label}_pads", total)
    node.set_inputs([before.inputs[0], made, *node.inputs[2:3]])
    graph.remove(before)
    return True


def _widths(node: Node) -> list[int] | None:
    """Return what is added before each axis, then after each; None where it is not constant."""
    source = node.inputs[0]
    pads = integers(node.inputs[1])
    if node.attribute("mode", "constant") != "constant" or pads is None or source is None:
        return None
    if source.shape is None or not source.shape:
        return None
    rank = len(source.shape)
    if len(node.inputs) < 4 or node.inputs[3] is None:
        return pads if len(pads) == 2 * rank else None
    axes = integers(node.inputs[3])
    if axes is None or len(pads) != 2 * len(axes):
        return None
    widths = [0] * 2 * rank
    for position, axis in enumerate(axes):
        widths[axis % rank] = pads[position]
        widths[axis % rank + rank] = pads[position + len(axes)]
    return widths


def _value(node: Node) -> str | None:
    """Return what tells the values apart that are filled in; None where it is not constant."""
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return "0"
    if given.tensor is None:
        return None
    return given.tensor.digest() if given.array().any() else "0"
