"""Fix the inputs that have a stored value, so that the runtime may treat them as constants.

Old exporters listed every weight as a graph input as well, which lets a caller override it.
Nobody does; but onnxruntime must then assume that the weight may change, and neither folds,
pre-packs nor fuses with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from graphopt.passes.base import PassResult, counted
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class FixInitializers:
    """Drop graph inputs that have a stored value; callers can no longer override them.

    Args:
        keep: glob patterns of input names that callers do override.
    """

    name: ClassVar[str] = "fix-initializers"
    effect: ClassVar[Effect] = Effect.EXACT
    keep: tuple[str, ...] = ()

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Remove the inputs; their values stay."""
        fixed = [
            v
            for v in graph.inputs
            if v.is_initializer and not any(fnmatchcase(v.name, p) for p in self.keep)
        ]
        for value in fixed:
            graph.remove_input(value)
        if not fixed:
            return PassResult(False)
        # Before IR version 4 initializers had to be inputs.
        graph.ir_version = max(graph.ir_version, 4)
        note = counted(len(fixed), "stored input", "fixed as constants")
        return PassResult(True, (note,), {"inputs": len(fixed)})
