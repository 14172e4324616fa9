"""Cut once instead of twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt.analysis import integers, only_consumer
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.joining import join_chains
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context, PassResult

    Cut = tuple[int, int, int]
    """Start, end and step of one axis."""

_INPUTS_SINCE = 10
_NO_END = (1 << 31) - 1
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class JoinSlices:
    """Join a Slice with the Slice that alone reads it.

    Cuts of different axes stand side by side. Two cuts of one axis become one if its size is known,
    or if both go forward by one and count from the beginning: the second then starts where the
    first does and some more, and ends with whichever ends first.
    """

    name: ClassVar[str] = "join-slices"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Join each Slice with the one before it, in order."""
        return join_chains(graph, "Slice", _join, since=_INPUTS_SINCE)


def _join(graph: Graph, node: Node) -> bool:
    before = made_by(node.inputs[0], "Slice")
    if before is None or only_consumer(before.outputs[0]) is not node:
        return False
    source = before.inputs[0]
    cuts = [_cuts(n) for n in (before, node)]
    if source is None or source.shape is None or cuts[0] is None or cuts[1] is None:
        return False
    joint = dict(cuts[0])
    for axis, cut in cuts[1].items():
        made = _composed(source.shape[axis], joint[axis], cut) if axis in joint else cut
        if made is None:
            return False
        joint[axis] = made
    node.set_inputs([source])
    columns = [*zip(*(joint[a] for a in sorted(joint)), strict=True)]
    given = {"starts": columns[0], "ends": columns[1], "axes": sorted(joint), "steps": columns[2]}
    for index, (name, numbers) in enumerate(given.items(), start=1):
        values = np.array(numbers, dtype=np.int64)
        node.set_input(index, graph.add_constant(f"{node.label}_{name}", values))
    graph.remove(before)
    return True


def _cuts(node: Node) -> Mapping[int, Cut] | None:
    """Return what is cut of each axis; None where that is not constant."""
    source = node.inputs[0]
    given = [integers(v) if v is not None else None for v in node.inputs[1:]]
    told = [v is not None for v in node.inputs[1:]]
    if source is None or source.shape is None or len(given) < 2:
        return None
    if any(t and g is None for t, g in zip(told, given, strict=True)):
        return None
    starts, ends = given[0], given[1]
    if starts is None or ends is None:
        return None
    axes = given[2] if len(given) > 2 and given[2] is not None else list(range(len(starts)))
    steps = given[3] if len(given) > 3 and given[3] is not None else [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        return None
    numbered = [axis % len(source.shape) for axis in axes]
    if len(set(numbered)) != len(numbered):
        return None
    return dict(zip(numbered, zip(starts, ends, steps, strict=True), strict=True))


def _composed(size: object, first: Cut, second: Cut) -> Cut | None:
    """Return one cut that does what two of one axis do; None where that depends on its size."""
    if isinstance(size, int):
        return _exact(size, first, second)
    if (first[2], second[2]) != (1, 1) or min(*first[:2], *second[:2]) < 0:
        return None
    start, end = first[0] + second[0], min(first[1], first[0] + second[1])
    return min(start, int(_INT64.max)), end, 1


def _exact(size: int, first: Cut, second: Cut) -> Cut | None:
    """Compose along an axis of known size."""
    taken = range(size)
    for start, end, step in (first, second):
        if step < 0 and (start < -len(taken) or end >= _NO_END):
            return None  # ONNX goes on to the first element, where Python takes nothing
        taken = taken[start:end:step]
    if not taken:
        return 0, 0, 1
    end = taken[-1] + taken.step
    # Before the first element there is no index but one that counts from far behind the end.
    return taken.start, end if end >= 0 else int(_INT64.min), taken.step
