"""Transpose the result of an element-wise operator instead of each of its operands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.matching import made_by
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_ELEMENTWISE = ("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
                "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where",
                "Xor")  # fmt: skip
_OLDEST_OPSET = 8
"""The first in which they broadcast by aligning the last axes."""


@dataclass(frozen=True)
class MergeTransposes:
    """Turn T(a) + T(b) into T(a + b) where nothing else reads the transposed operands.

    All operands but single numbers must be transposed in the same order, which has as many axes as
    each of them: broadcasting then pairs the same axes before as after.
    """

    name: ClassVar[str] = "merge-transposes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Merge from the inputs to the outputs, so that a tree is left with one Transpose."""
        if graph.opset < _OLDEST_OPSET or len(graph.nodes("Transpose")) < 2:
            return PassResult(False)
        merged = sum(_merge(graph, node) for node in graph.nodes(*_ELEMENTWISE))
        if not merged:
            return PassResult(False)
        graph.sort()
        return PassResult(True, (counted(merged, "Transpose", "saved"),), {"transposes": merged})


def _merge(graph: Graph, node: Node) -> int:
    """Return how many Transposes were saved at one operator."""
    moved = [made_by(v, "Transpose") for v in node.inputs]
    found = [m for m in moved if m is not None]
    orders = {tuple(m.attribute("perm") or ()) for m in found}
    order = orders.pop() if len(orders) == 1 else ()
    if node.domain or len(set(found)) < 2 or not order or len(node.outputs) != 1:
        return 0
    pairs = zip(node.inputs, moved, strict=True)
    if not all(_fits(v, m, node, len(order)) for v, m in pairs):
        return 0
    output = node.outputs[0]
    name = graph.unique_name(f"{output.name}_merged")
    made = graph.add_node("Transpose", [], [name], {"perm": list(order)}).outputs[0]
    made.dtype, made.shape = output.dtype, output.shape
    graph.replace_uses(output, made)
    assert made.producer is not None
    made.producer.set_input(0, output)
    output.shape = None
    for index, transpose in enumerate(moved):
        if transpose is not None:
            node.set_input(index, transpose.inputs[0])
    for transpose in dict.fromkeys(found):
        graph.remove(transpose)
    return len(set(found)) - 1


def _fits(value: Value | None, transpose: Node | None, node: Node, rank: int) -> bool:
    """Whether an operand is a number, or a transposed tensor that only this operator reads."""
    if transpose is not None:
        return value is not None and set(value.consumers) == {node} and not value.is_output
    tensor = value.tensor if value is not None else None
    return tensor is not None and tensor.size == 1 and len(tensor.shape) <= rank
