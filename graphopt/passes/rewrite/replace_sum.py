"""Add tensors with Add, which runtimes fuse, instead of with Sum, which they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult, counted
from graphopt.passes.rewrite.keep_sums_apart import is_kept_apart
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class ReplaceSum:
    """Turn Sum of two or more tensors into Adds, from left to right.

    Older exporters write the joins of residual networks so. onnxruntime merges Add into the
    convolution before it and has an integer kernel of it; of Sum it has neither. What
    ``keep-sums-apart`` writes stays.
    """

    name: ClassVar[str] = "replace-sum"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every Sum of more than one tensor."""
        sums = [n for n in graph.nodes("Sum") if n.domain == "" and len(n.inputs) > 1]
        found = [n for n in sums if not is_kept_apart(n, context.target)]
        if not found or graph.opset < 8:
            # Before opset 8 Sum takes tensors of one shape, and Add has its own broadcasting.
            return PassResult(False)
        for node in found:
            _replace(graph, node)
        graph.sort()
        note = counted(len(found), "Sum", "replaced")
        return PassResult(True, (note,), {"sums": len(found)})


def _replace(graph: Graph, node: Node) -> None:
    total = node.inputs[0]
    for index, term in enumerate(node.inputs[1:-1], start=1):
        name = f"{node.label}_part" + (f"_{index}" if index > 1 else "")
        total = graph.add_node("Add", [total, term], 1, name=name).outputs[0]
        total.dtype = node.outputs[0].dtype
    last = node.inputs[-1]
    node.op = "Add"
    node.set_inputs([total, last])
