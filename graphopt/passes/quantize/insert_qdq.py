"""Quantize: insert Q and DQ so that the target executes the model in integer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.calibrate import calibrated_tensors
from graphopt.passes.quantize.qdq.align import align_convolutions
from graphopt.passes.quantize.qdq.parameters import activation_params
from graphopt.passes.quantize.qdq.placement import Placement, place
from graphopt.passes.quantize.qdq.rewrite import Rewriter
from graphopt.targets.fusion import fusion_table
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from graphopt.calibration.base import RangeStatistics
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context
    from graphopt.types import QuantParams

_PLACEMENT = re.compile(r"auto|integer|float|(?:head-(\d+)(?:-(?=tail)|$))?(?:tail-(\d+))?")
_HEAVY = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True)
class InsertQdq:
    """Insert QuantizeLinear and DequantizeLinear pairs that the target's runtime fuses.

    Args:
        placement: which heavy operators are integer: "integer" (all that can be), "float" (none),
            "head-K" (all but the first K), "tail-K" (all but the last K), "head-K-tail-M", or
            "auto" (the planner tries these and writes the winner here).
        exclude: glob patterns of node names that stay float.
        only: glob patterns; heavy operators whose names match none of them stay float.
        align: pad the channels of thin convolutions at the ends of an integer island to what the
            target's fast kernel takes; exact, but not always faster, so the planner tries both.
    """

    name: ClassVar[str] = "insert-qdq"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    placement: str = "auto"
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    align: bool = True

    def __post_init__(self) -> None:
        if not self.placement or not _PLACEMENT.fullmatch(self.placement):
            raise RecipeError(
                f"`{self.placement}` is not a placement",
                code="G103",
                hint="auto, integer, float, head-K, tail-K or head-K-tail-M",
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Place, quantize and rewrite; without data nothing is changed."""
        declined = self._decline(graph, context)
        if declined is not None:
            for node in graph.nodes(*_HEAVY):
                context.explain(node, declined)
            return PassResult(False, (declined,))
        ir.infer_shapes(graph)
        ranges = context.ranges(graph, calibrated_tensors(graph, context.target))
        table = fusion_table(context.target.runtime)
        placement = place(graph, table, ranges, self._excluded(graph))
        for node, reason in placement.reasons.items():
            context.explain(node, reason)
        heavy = sum(u.rule.role == "heavy" for u in placement.units.values())
        if not heavy:
            return PassResult(False, ("no operator can be integer",))
        params = _parameters(placement, ranges, context)
        names = {n: n.name or n.outputs[0].name for n in graph.nodes(*_HEAVY)}
        rules = context.target.quantization
        rewriter = Rewriter(graph, placement, params, rules, context.remember)
        added = rewriter.run()
        for node in rewriter.protected:
            context.explain(node, "float between integers; protected from quantization at load")
        aligned = align_convolutions(graph, placement.units, rules) if self.align else 0
        note = f"{heavy} of {len(names)} heavy operators integer"
        metrics = {"integer": heavy, "heavy": len(names), "q_and_dq": added}
        notes = [note, f"{added} Q and DQ nodes"]
        if aligned:
            notes.append(f"{aligned} thin convolution{'s' * (aligned != 1)} padded")
        return PassResult(True, tuple(notes), metrics)

    def _decline(self, graph: Graph, context: Context) -> str | None:
        if not context.has_data:
            return "no data: ranges are unknown"
        if self.placement == "float":
            return "float was chosen for the whole model"
        if graph.opset < 13:
            return f"opset {graph.opset} has no per-channel DequantizeLinear"
        if graph.nodes("QuantizeLinear", "DequantizeLinear"):
            return "the model is quantized already"
        return None

    def _excluded(self, graph: Graph) -> Callable[[Node], str | None]:
        """Return the function that says why a node is kept in float, or None."""
        head, tail = _ends(self.placement)
        heavy = graph.nodes(*_HEAVY)
        kept = {*heavy[:head], *(heavy[-tail:] if tail else ())}

        def reason(node: Node) -> str | None:
            name = node.name or node.outputs[0].name
            if node in kept:
                return f"placement `{self.placement}` keeps this end of the model in float"
            if any(fnmatchcase(name, p) for p in self.exclude):
                return "excluded by the recipe"
            if self.only and node.op in _HEAVY and not any(fnmatchcase(name, p) for p in self.only):
                return "not among the operators that the recipe names"
            return None

        return reason


def _ends(placement: str) -> tuple[int, int]:
    found = _PLACEMENT.fullmatch(placement)
    assert found is not None
    return int(found.group(1) or 0), int(found.group(2) or 0)


def _parameters(
    placement: Placement, ranges: Mapping[str, RangeStatistics], context: Context
) -> dict[Value, QuantParams]:
    """Return the parameters of every quantized tensor; moved data keeps those of its source."""
    from graphopt.passes.quantize.qdq.operands import activations

    source_of: dict[Value, Value] = {}
    wanted: dict[Value, None] = {}
    for unit in placement.units.values():
        for value in activations(unit.node):
            wanted[value] = None
        if placement.needs_integer_output(unit):
            wanted[unit.output] = None
        if unit.rule.role == "passthrough":
            source_of[unit.output] = activations(unit.node)[0]
    rules = context.target.quantization
    params: dict[Value, QuantParams] = {}
    for value in wanted:
        origin = value
        while origin in source_of:
            origin = source_of[origin]
        found = ranges[origin.name]
        params[value] = activation_params(found.low, found.high, rules)
    return params
