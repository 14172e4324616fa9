"""Write x / (1 + |x|) as the one operator Softsign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.hookspecs import hookimpl
from graphopt.passes.patterns import Rule, Var, op, rewrite
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context, Pass, PassResult
    from graphopt.passes.patterns import Match


def refuse(match: Match) -> str | None:
    """Return why a match is left as it is."""
    dtype = match["x"].dtype
    if dtype is not DType.FLOAT:
        return "onnxruntime has Softsign for float32 only"
    return None


x = Var("x")

RULE = Rule(
    name="softsign",
    pattern=x / (1 + op.Abs(x)),
    replacement=op.Softsign(x),
    check=refuse,
    because="x / (1 + |x|) is Softsign",
)


@dataclass(frozen=True)
class FuseSoftsign:
    """Turn Abs, Add and Div into Softsign."""

    name: ClassVar[str] = "fuse-softsign"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every match, and say why the rest stays."""
        return rewrite(graph, context, [RULE])


@hookimpl
def graphopt_register_passes() -> list[type[Pass]]:
    """Give graphopt the pass."""
    return [FuseSoftsign]
