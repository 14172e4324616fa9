"""Remove Dropout nodes, which do nothing at inference time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.hookspecs import hookimpl
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context, Pass


@dataclass(frozen=True)
class EliminateDropout:
    """Replace each Dropout by its input.

    Args:
        keep: names of nodes to leave alone.
    """

    name: ClassVar[str] = "eliminate-dropout"
    effect: ClassVar[Effect] = Effect.EXACT
    keep: tuple[str, ...] = ()

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Remove what can be removed, and say why the rest stays."""
        removed = 0
        for node in graph.nodes("Dropout"):
            if (reason := self._reason_to_stay(node)) is not None:
                context.explain(node, reason)
            elif (source := node.inputs[0]) is not None:
                context.explain(node, "removed: identity at inference")
                graph.replace_uses(node.outputs[0], source)
                graph.remove(node)
                removed += 1
        return PassResult(modified=removed > 0, notes=(f"{removed} Dropout removed",))

    def _reason_to_stay(self, node: Node) -> str | None:
        if node.name in self.keep:
            return "named in `keep`"
        if any(mask.uses or mask.is_output for mask in node.outputs[1:]):
            return "its mask is used"
        training = node.inputs[2] if len(node.inputs) > 2 else None
        if training is not None and not (training.is_constant and not training.array()):
            return "it may run in training mode"
        return None


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Give graphopt the pass."""
    return [EliminateDropout]
