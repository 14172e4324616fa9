"""Put the bodies of the model's own functions where they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult, counted
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class InlineFunctions:
    """Inline local functions: what is hidden in them no other pass can simplify.

    Exporters keep modules as functions. A runtime inlines them too, when it loads the model.
    """

    name: ClassVar[str] = "inline-functions"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Inline every function that is for the model's own operator sets."""
        try:
            count = ir.inline_functions(graph)
        except ModelError as error:
            return PassResult(False, (error.message,))
        if not count:
            return PassResult(False)
        ir.separate_node_names(graph)
        return PassResult(True, (counted(count, "function", "inlined"),), {"functions": count})
