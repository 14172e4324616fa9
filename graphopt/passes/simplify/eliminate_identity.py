"""Remove operators that return their input."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.analysis import levels
from graphopt.passes.base import PassResult
from graphopt.passes.simplify.bypass import bypass
from graphopt.passes.simplify.no_ops import CANDIDATES, NoOps
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class EliminateIdentity:
    """Bypass Identity, inference-time Dropout, and whatever else returns its input.

    That is a Cast to the type that it is given, a Transpose that keeps the order, a Reshape or
    Expand to the shape that there is, a Slice of everything, a Pad of nothing, a Concat or Sum of
    one tensor, a Resize to the same size, and the like. A dimension that is open counts as the same
    when it has the same symbol.
    """

    name: ClassVar[str] = "eliminate-identity"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace the output of each by its input, in inner graphs too."""
        if any(_is_untyped(n) for n in graph.nodes(*CANDIDATES)):
            ir.infer_shapes(graph)
        removed: Counter[str] = Counter()
        for level in levels(graph):
            # A symbol may stand for another length in every round of an inner graph.
            no_ops = NoOps(level, shapes=level is graph)
            for node in level.nodes(*CANDIDATES):
                op = node.op
                if node.domain == "" and no_ops.returns_input(node) and _bypass(level, node):
                    removed[op] += 1
        if not removed:
            return PassResult(False)
        parts = ", ".join(f"{count} {op}" for op, count in sorted(removed.items()))
        return PassResult(True, (f"{parts} bypassed",), {"nodes": sum(removed.values())})


def _is_untyped(node: Node) -> bool:
    """Whether a type or a shape would have to be known to tell."""
    known = all(v is None or (v.dtype and v.shape is not None) for v in node.inputs)
    return not node.domain and node.op not in {"Identity", "Dropout"} and not known


def _bypass(graph: Graph, node: Node) -> bool:
    source = node.inputs[0]
    return source is not None and bypass(graph, node, source)
