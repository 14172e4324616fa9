"""Remove operators that return their input."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class EliminateIdentity:
    """Bypass Identity, inference-time Dropout, and Cast, Transpose and Concat that do nothing."""

    name: ClassVar[str] = "eliminate-identity"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace the output of each by its input."""
        if any(n.op == "Cast" for n in graph.nodes()):
            ir.infer_shapes(graph)
        removed: Counter[str] = Counter()
        for node in graph.nodes("Identity", "Dropout", "Cast", "Transpose", "Concat"):
            if node.domain == "" and _returns_input(node) and _bypass(graph, node):
                removed[node.op] += 1
        if not removed:
            return PassResult(False)
        parts = ", ".join(f"{count} {op}" for op, count in sorted(removed.items()))
        return PassResult(True, (f"{parts} bypassed",), {"nodes": sum(removed.values())})


def _returns_input(node: Node) -> bool:
    match node.op:
        case "Identity":
            return True
        case "Dropout":
            return _is_inference_dropout(node)
        case "Cast":
            source = node.inputs[0]
            return source is not None and source.dtype == node.attribute("to")
        case "Transpose":
            order = node.attribute("perm")
            return order is not None and order == sorted(order)
        case _:
            return len(node.inputs) == 1


def _is_inference_dropout(node: Node) -> bool:
    if len(node.outputs) > 1 and (node.outputs[1].uses or node.outputs[1].is_output):
        return False
    if node.graph.opset < 7:
        return bool(node.attribute("is_test", 0))
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    return mode is None or (mode.is_constant and not bool(mode.array()))


def _bypass(graph: Graph, node: Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    if source is None:
        return False
    movable = source.producer is not None and not source.is_output and source.graph is graph
    if output.is_output and not movable:
        # An output must keep its name, and neither an input nor a constant can take it.
        readers = output.uses
        for reader, index in readers:
            reader.set_input(index, source)
        return bool(readers)
    graph.replace_uses(output, source)
    graph.remove(node)
    return True
