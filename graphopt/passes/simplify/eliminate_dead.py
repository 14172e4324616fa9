"""Remove what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult, counted
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class EliminateDead:
    """Remove nodes whose outputs nobody reads, and constants that are left over."""

    name: ClassVar[str] = "eliminate-dead"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Remove from the end backwards, so that one sweep suffices."""
        removed = 0
        for node in reversed(graph.nodes()):
            if _is_dead(node):
                graph.remove(node)
                removed += 1
        before = len(graph.initializers)
        for value in graph.initializers:
            graph.drop_constant(value)
        constants = before - len(graph.initializers)
        notes = []
        if removed:
            notes.append(counted(removed, "node", "removed"))
        if constants:
            notes.append(counted(constants, "unused constant", "removed"))
        return PassResult(bool(notes), tuple(notes), {"nodes": removed, "constants": constants})


def _is_dead(node: Node) -> bool:
    return not any(v.uses or v.is_output for v in node.outputs)
