"""Rewrite a model for an older operator set, where it is to run on an older runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class DowngradeOpset:
    """Write operators as an older set has them; those that it lacks become what defines them.

    Args:
        version: newest default operator set that the result may be for; 9 or later. Models for it,
            and older ones, are left alone.
        required: fail where an operator has no equal in that set; otherwise the model stays as it
            is, and the report names the operator.
    """

    name: ClassVar[str] = "downgrade-opset"
    effect: ClassVar[Effect] = Effect.EXACT
    version: int = field(default=17, metadata={"minimum": 9})
    required: bool = False

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Convert the graph; one that cannot be converted stays as it is, with the reason."""
        before = graph.opset
        if before <= self.version:
            return PassResult(False, (f"opset {before} is old enough",))
        try:
            ir.downgrade_opset(graph, self.version)
        except ModelError as error:
            if self.required:
                raise
            return PassResult(False, (f"stays at opset {before}: {error.message}",))
        return PassResult(True, (f"opset {before} to {self.version}",))
