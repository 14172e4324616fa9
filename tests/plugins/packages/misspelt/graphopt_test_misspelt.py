"""A plugin with a misspelt hook name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.hookspecs import hookimpl
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class NeverSeen:
    """Leave the graph as it is."""

    name: ClassVar[str] = "never-seen"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult(modified=False)


@hookimpl
def graphopt_register_pases():
    return [NeverSeen]
