"""Concatenate once instead of twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import remove_unread
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.bypass import bypass
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class JoinConcats:
    """Take the tensors of a Concat into those that read it, if all do along the same axis.

    Parts of a Split that come together again whole and in order are what was split.
    """

    name: ClassVar[str] = "join-concats"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Join from the inputs to the outputs, so that long chains collapse."""
        joined = undone = 0
        for node in [n for n in graph.nodes("Concat") if not n.domain]:
            joined += _flatten(node)
            undone += _undo(graph, node)
        if not joined + undone:
            return PassResult(False)
        remove_unread(graph)
        notes = [counted(joined, "Concat", "joined")] if joined else []
        notes += [counted(undone, "Split", "undone")] if undone else []
        return PassResult(True, tuple(notes), {"concats": joined, "splits": undone})


def _flatten(node: Node) -> int:
    """Put in place of each Concat among the inputs what it joins."""
    inputs: list[Value | None] = []
    joined = 0
    for value in node.inputs:
        inner = made_by(value, "Concat")
        if inner is None or not _is_only_joined(inner):
            inputs.append(value)
            continue
        inputs += inner.inputs
        joined += 1
    if joined:
        node.set_inputs(inputs)
    return joined


def _is_only_joined(inner: Node) -> bool:
    """Whether all that read it are Concats along the same axis, so that it will not be needed."""
    output, axis = inner.outputs[0], _axis(inner)
    if output.is_output or axis is None:
        return False
    return all(
        reader.op == "Concat" and not reader.domain and _axis(reader) == axis
        and reader.graph is inner.graph
        for reader in output.consumers
    )  # fmt: skip


def _axis(node: Node) -> int | None:
    """Return the axis, counted from the end: both results have the same rank."""
    axis = int(node.attribute("axis", 0))
    if axis < 0:
        return axis
    shape = node.outputs[0].shape
    shapes = [v.shape for v in node.inputs if v is not None and v.shape is not None]
    known = shape if shape is not None else next(iter(shapes), None)
    return None if known is None else axis - len(known)


def _undo(graph: Graph, node: Node) -> bool:
    """Read what was split, where all of its parts come together again."""
    split = made_by(node.inputs[0] if node.inputs else None, "Split")
    source = split.inputs[0] if split is not None else None
    if split is None or source is None or node.inputs != split.outputs:
        return False
    axis, other = (int(n.attribute("axis", 0)) for n in (node, split))
    return axis == other and bypass(graph, node, source)
