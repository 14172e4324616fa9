"""Replace an If whose condition is known by the branch that is taken."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import scalar
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import remove_unread
from graphopt.passes.rewrite.fold_shapes import FoldShapes
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class InlineBranches:
    """Inline the taken branch of a constant If, and the body of a Loop that runs once or never.

    Exporters write an If for every Squeeze of a dimension that they do not know. What a branch
    reads from around it, it reads afterwards; its own names get a number where they are taken.

    Args:
        max_bytes: what becomes constant by that and is larger stays computed.
    """

    name: ClassVar[str] = "inline-branches"
    effect: ClassVar[Effect] = Effect.EXACT
    max_bytes: int = 1 << 20

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Inline at every level; fold what that makes known, which may decide another If."""
        found: Counter[str] = Counter()
        while _settle_all(graph, found):
            FoldShapes().run(graph, context)
            FoldConstants(max_bytes=self.max_bytes).run(graph, context)
        if not found:
            return PassResult(False)
        remove_unread(graph)
        ir.separate_node_names(graph)
        notes = [counted(found["If"], "If", "decided")] if found["If"] else []
        if found["Loop"]:
            notes.append(counted(found["Loop"], "Loop", "of at most one round inlined"))
        return PassResult(True, tuple(notes), {op.lower(): n for op, n in found.items()})


def _settle_all(graph: Graph, found: Counter[str]) -> bool:
    """Inline in every graph, outer ones first; whether there was anything."""
    before = found.total()
    waiting = [graph]
    while waiting:
        level = waiting.pop()
        _settle(level, found)
        waiting += [inner for node in level.nodes() for inner in node.subgraphs]
    return found.total() > before


def _settle(level: Graph, found: Counter[str]) -> None:
    """Inline in one graph until nothing more is known of its own conditions."""
    waiting = level.nodes("If", "Loop")
    while waiting:
        node = waiting.pop()
        if not node.domain and _inline(level, node):
            found[node.op] += 1
            waiting = level.nodes("If", "Loop")


def _inline(graph: Graph, node: Node) -> bool:
    results = _branch(graph, node) if node.op == "If" else _round(graph, node)
    if results is None:
        return False
    for output, result in zip(node.outputs, results, strict=True):
        if output.name:
            graph.replace_uses(output, result)
    graph.remove(node)
    graph.sort()
    return True


def _branch(graph: Graph, node: Node) -> list[Value] | None:
    """Return what the taken branch makes of each output; None while it is not known which."""
    condition = scalar(node.inputs[0])
    if condition is None:
        return None
    inner = node.attribute("then_branch" if condition else "else_branch")
    return ir.splice(graph, inner) if isinstance(inner, ir.Graph) else None


def _round(graph: Graph, node: Node) -> list[Value] | None:
    """Return what a Loop of no or one round makes of each output; None for any other."""
    rounds = _rounds(node)
    body = node.attribute("body")
    if rounds is None or not isinstance(body, ir.Graph):
        return None
    carried = [v for v in node.inputs[2:] if v is not None]
    scanned = len(node.outputs) - len(carried)
    if len(carried) != len(node.inputs) - 2 or len(body.inputs) != len(carried) + 2:
        return None
    if rounds == 0:
        return carried if scanned == 0 else None
    if scanned and graph.opset < 13:
        return None  # Unsqueeze took its axes as an attribute
    first = graph.add_constant(f"{node.label}_round", np.array(0, dtype=np.int64))
    going = graph.add_constant(f"{node.label}_going", np.array(True))
    results = ir.splice(graph, body, [first, going, *carried])[1:]
    kept, rows = results[: len(carried)], results[len(carried) :]
    return [*kept, *(_stacked(graph, row) for row in rows)]


def _rounds(node: Node) -> int | None:
    """Return 0 or 1 when the Loop certainly runs so often."""
    trips, going = (node.inputs[i] if len(node.inputs) > i else None for i in (0, 1))
    limit = scalar(trips) if trips is not None else None
    started = scalar(going) if going is not None else 1.0
    if (limit is not None and limit <= 0) or started == 0:
        return 0
    return 1 if limit == 1 and started is not None else None


def _stacked(graph: Graph, row: Value) -> Value:
    """Return what one round adds to a scan output, as the only row of it."""
    axis = graph.add_constant(f"{row.name}_axis", np.array([0], dtype=np.int64))
    return graph.add_node("Unsqueeze", [row, axis], 1).outputs[0]
