"""Collect the ranges of activations on the user's data, once, for everybody who needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.qdq.lower import rule_for
from graphopt.passes.quantize.qdq.operands import absorb
from graphopt.targets.fusion import fusion_table
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.targets.base import Target
    from graphopt.targets.fusion import FusionTable


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
    """Return the float32 activations that operators with an integer kernel read or write.

    What only a Relu or Clip reads that a Q will swallow is never quantized, so it is left out.
    """
    table = fusion_table(target.runtime)
    found: dict[Value, None] = {}
    for node in graph.nodes():
        rule = rule_for(node, table)
        if rule is None:
            continue
        found |= dict.fromkeys(v for v in node.inputs if v is not None)
        if rule.role == "absorbed":
            found |= dict.fromkeys(node.outputs)
        else:
            _, output = absorb(node, table)
            found[output] = None
    swallowed = {v for v in found if v.producer is not None and _is_swallowed(v.producer, v, table)}
    return tuple(v.name for v in found if v not in swallowed and _is_activation(v, graph))


def _is_swallowed(producer: Node, value: Value, table: FusionTable) -> bool:
    if value is not producer.outputs[0]:
        return False
    rule = rule_for(producer, table)
    return rule is not None and rule.role != "absorbed" and absorb(producer, table)[1] is not value


def _is_activation(value: Value, graph: Graph) -> bool:
    return (
        value.dtype is DType.FLOAT
        and not value.is_constant
        and value.graph is graph
        and value.name != ""
    )
