"""Quantize: insert Q and DQ so that the target executes the model in integer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Literal

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.calibrate import calibrated_tensors
from graphopt.passes.quantize.qdq.align import align_convolutions
from graphopt.passes.quantize.qdq.existing import Existing, is_whole, take_existing
from graphopt.passes.quantize.qdq.kept import kept_in_float
from graphopt.passes.quantize.qdq.placement import place
from graphopt.passes.quantize.qdq.rewrite import Rewriter
from graphopt.passes.quantize.qdq.tensors import tensor_params
from graphopt.passes.recover.correct_bias import FLOAT_GRAPH
from graphopt.passes.recover.layer_inputs import layer_inputs
from graphopt.passes.simplify.fuse_matmul_add import FuseMatmulAdd
from graphopt.targets.fusion import fusion_table
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context

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
        matmuls: whether MatMul and Gemm are among them; otherwise only convolutions.
        elementwise: whether activations and gates (Mul, Sigmoid, HardSwish and the like) between
            integer operators are "integer" or "float".
        attention: whether products of two activations are "integer" or "float"; integer ones are
            less precise, and seldom faster.
        align: pad the channels of thin convolutions at the ends of an integer island to what the
            target's fast kernel takes; exact, but not always faster, so the planner tries both.
        rounding: how weights are rounded: "balanced" (errors cancel in each output; needs no
            data), or "learned" (the output error on the calibration data is small, and biases make
            up for what is left of its mean).
        scales: of weights: "max" (the largest weight of an output is exact), or "mse" (large
            weights are clipped where that makes the squared error of all smaller).
    """

    name: ClassVar[str] = "insert-qdq"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    placement: str = "auto"
    exclude: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    matmuls: bool = True
    elementwise: Literal["integer", "float"] = "integer"
    attention: Literal["integer", "float"] = "float"
    align: bool = True
    rounding: Literal["balanced", "learned"] = "balanced"
    scales: Literal["max", "mse"] = "max"

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
        if not graph.nodes("QuantizeLinear", "DequantizeLinear"):
            return self._insert(graph, context, Existing())
        return self._complete(graph, context)

    def _complete(self, graph: Graph, context: Context) -> PassResult:
        """Take the Q and DQ that a model has out of it, and place them anew as they were."""
        bare = graph.copy()
        existing, reason = None, "the model is quantized already"
        if not is_whole(graph, context.target):
            existing = take_existing(bare, context.target.quantization)
            reason = "the model is quantized in a way that is left as it is"
        result = PassResult(False, (reason,))
        if existing is not None:
            # Between Q and DQ the pairs of product and bias could not be seen before.
            FuseMatmulAdd().run(bare, context)
            result = self._insert(bare, context, existing)
        if result.modified:
            graph.assign(bare)
            return result
        for node in graph.nodes(*_HEAVY):
            context.explain(node, reason)
        return result

    def _insert(self, graph: Graph, context: Context, existing: Existing) -> PassResult:
        rules = context.target.quantization
        ranges = existing.ranges(context.ranges(graph, calibrated_tensors(graph, context.target)))
        table = fusion_table(context.target.runtime)
        placement = place(graph, table, ranges, existing.excluding(self._excluded(graph)))
        for node, reason in placement.reasons.items():
            context.explain(node, reason)
        heavy = sum(u.rule.role == "heavy" for u in placement.units.values())
        if not heavy:
            return PassResult(False, ("no operator can be integer",))
        params = tensor_params(placement, ranges, rules, existing.params(placement))
        names = {n: n.name or n.outputs[0].name for n in graph.nodes(*_HEAVY)}
        inputs = layer_inputs(graph, context) if self.rounding == "learned" else {}
        kept = existing.constants
        context.remember(FLOAT_GRAPH, graph.copy)
        rewriter = Rewriter(graph, placement, params, rules, context.remember, inputs, kept)
        rewriter.search_scales = self.scales == "mse"
        added = rewriter.run()
        for node in rewriter.protected:
            context.explain(node, "float between integers; protected from quantization at load")
        align = self.align and not existing
        aligned = align_convolutions(graph, placement.units, rules) if align else 0
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
        return None

    def _excluded(self, graph: Graph) -> Callable[[Node], str | None]:
        """Return the function that says why a node is kept in float, or None."""
        head, tail = _ends(self.placement)
        heavy = graph.nodes(*_HEAVY)
        kept = {*heavy[:head], *(heavy[-tail:] if tail else ())}
        faster = kept_in_float(
            graph, gates=self.elementwise == "float", attention=self.attention == "float"
        )

        def reason(node: Node) -> str | None:
            name = node.name or node.outputs[0].name
            if node in kept:
                return f"placement `{self.placement}` keeps this end of the model in float"
            if any(fnmatchcase(name, p) for p in self.exclude):
                return "excluded by the recipe"
            if node in faster:
                return faster[node]
            if not self.matmuls and node.op in {"Gemm", "MatMul"}:
                return "only convolutions have ranges fixed in advance"
            if self.only and node.op in _HEAVY and not any(fnmatchcase(name, p) for p in self.only):
                return "not among the operators that the recipe names"
            return None

        return reason


def _ends(placement: str) -> tuple[int, int]:
    found = _PLACEMENT.fullmatch(placement)
    assert found is not None
    return int(found.group(1) or 0), int(found.group(2) or 0)
