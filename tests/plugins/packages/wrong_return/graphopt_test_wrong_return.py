"""A plugin with hooks that return other things than they promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.hookspecs import hookimpl
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


class NotAPass:
    """It has a name, but nothing that runs."""

    name = "not-a-pass"


@dataclass(frozen=True)
class Fine:
    """Leave the graph as it is."""

    name: ClassVar[str] = "fine-on-its-own"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        return PassResult(modified=False)


@hookimpl
def graphopt_register_passes():
    return [Fine, NotAPass]


@hookimpl
def graphopt_register_targets():
    return None


@hookimpl
def graphopt_register_observers():
    return ["min-max"]
