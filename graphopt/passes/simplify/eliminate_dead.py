"""Remove what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult
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
        constants = [
            v for v in graph.initializers if not v.uses and not v.is_output and not v.is_input
        ]
        for value in constants:
            graph.remove_value(value)
        notes = []
        if removed:
            notes.append(f"{removed} node{'s' * (removed != 1)} removed")
        if constants:
            notes.append(f"{len(constants)} unused constant{'s' * (len(constants) != 1)} removed")
        return PassResult(
            bool(notes), tuple(notes), {"nodes": removed, "constants": len(constants)}
        )


def _is_dead(node: Node) -> bool:
    return not any(v.uses or v.is_output for v in node.outputs)
