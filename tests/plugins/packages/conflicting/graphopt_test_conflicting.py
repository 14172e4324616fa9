"""A plugin with three passes: two of its names are taken."""

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
class FoldConstants:
    """Leave the graph as it is."""

    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult(modified=False)


@dataclass(frozen=True)
class LeaveAlone:
    """Leave the graph as it is."""

    name: ClassVar[str] = "leave-alone"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult(modified=False)


@dataclass(frozen=True)
class OnlyHere:
    """Leave the graph as it is."""

    name: ClassVar[str] = "only-here"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult(modified=False)


@hookimpl
def graphopt_register_passes():
    return [FoldConstants, LeaveAlone, OnlyHere]
