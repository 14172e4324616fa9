"""Upgrade the default operator set when later passes need a newer one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class UpgradeOpset:
    """Rewrite models of an old operator set for a newer one.

    Args:
        minimum: models at or above it are left alone; 13 is the first with per-channel
            DequantizeLinear.
        to: version that older models are rewritten for.
    """

    name: ClassVar[str] = "upgrade-opset"
    effect: ClassVar[Effect] = Effect.EXACT
    minimum: int = 13
    to: int = 17

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Convert the graph; one that cannot be converted stays as it is, with the reason."""
        before = graph.opset
        if before >= self.minimum:
            return PassResult(False, (f"opset {before} is new enough",))
        try:
            ir.upgrade_opset(graph, self.to)
        except ModelError as error:
            return PassResult(False, (f"stays at opset {before}: {error.message}",))
        return PassResult(True, (f"opset {before} to {self.to}",))
