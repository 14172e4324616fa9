"""Let element-wise operators do the broadcasting that an Expand does before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.analysis.symbols import Symbols
from graphopt.passes.base import PassResult, counted
from graphopt.passes.simplify.bypass import drop_unread
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.analysis.symbols import Dims
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_BROADCASTING = frozenset(
    {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
     "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
     "Sub", "Sum", "Where", "Xor"}
)  # fmt: skip
_OLDEST_OPSET = 8
"""The first in which all of these broadcast by the rule of Expand."""


@dataclass(frozen=True)
class DropExpands:
    """Read the source of an Expand where the other operands give the result the same shape.

    Every axis that was stretched must be as long in another operand, by its size or its symbol.
    """

    name: ClassVar[str] = "drop-expands"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Look at every reader of every Expand; one without readers goes."""
        found = [n for n in graph.nodes("Expand") if not n.domain and n.inputs[0] is not None]
        if graph.opset < _OLDEST_OPSET or not any(_is_broadcast_again(n) for n in found):
            return PassResult(False)
        ir.infer_shapes(graph)
        symbols = Symbols(graph)
        spared = 0
        for node in found:
            for reader, index in node.outputs[0].uses:
                spared += reader.graph is graph and _spare(node, reader, index, symbols)
            drop_unread(graph, node)
        if not spared:
            return PassResult(False)
        note = counted(spared, "operator", "spared an Expand")
        return PassResult(True, (note,), {"operators": spared})


def _is_broadcast_again(node: Node) -> bool:
    return any(r.op in _BROADCASTING and not r.domain for r in node.outputs[0].consumers)


def _spare(node: Node, reader: Node, index: int, symbols: Symbols) -> bool:
    """Let one operand be broadcast by its reader, if the result stays the same."""
    source = node.inputs[0]
    if reader.domain or reader.op not in _BROADCASTING or source is None:
        return False
    own, wide = symbols.shape(source), symbols.shape(node.outputs[0])
    others = [v for i, v in enumerate(reader.inputs) if i != index]
    if own is None or wide is None or not _covered(own, wide, others, symbols):
        return False
    reader.set_input(index, source)
    return True


def _covered(own: Dims, wide: Dims, others: list[Value | None], symbols: Symbols) -> bool:
    """Whether each axis that the Expand adds or stretches is as long in another operand."""
    shapes = [symbols.shape(v) for v in others]
    for back in range(1, len(wide) + 1):
        size = wide[-back]
        if back <= len(own) and own[-back] == size:
            continue
        if not any(s is not None and back <= len(s) and s[-back] == size for s in shapes):
            return False
    return True
