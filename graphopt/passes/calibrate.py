"""Collect the ranges of activations on the user's data, once, for everybody who needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.targets.fusion import fusion_table
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.targets.base import Target


@dataclass(frozen=True)
class Calibrate:
    """Run the data through the model and keep the range of every tensor that may be quantized."""

    name: ClassVar[str] = "calibrate"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Collect; the graph stays as it is."""
        if not context.has_data:
            return PassResult(False, ("no data given",))
        ir.infer_shapes(graph)
        names = calibrated_tensors(graph, context.target)
        ranges = context.ranges(graph, names)
        samples = max((r.samples for r in ranges.values()), default=0)
        note = f"{len(ranges)} ranges from {samples} samples"
        return PassResult(False, (note,), {"ranges": len(ranges), "samples": samples})


def calibrated_tensors(graph: Graph, target: Target) -> tuple[str, ...]:
    """Return the float32 activations that operators with an integer kernel read or write."""
    table = fusion_table(target.runtime)
    found: dict[str, None] = {}
    for node in graph.nodes():
        if table.rule(node.op, node.domain) is None:
            continue
        for value in (*node.inputs, *node.outputs):
            if value is not None and value.dtype is DType.FLOAT and not value.is_constant:
                if value.graph is graph and value.name:
                    found[value.name] = None
    return tuple(found)
