"""Quantize: insert Q and DQ so that the target executes the model in integer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Literal

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.quantize.calibrate import calibrated_tensors
from graphopt.passes.quantize.qdq.align import align_convolutions
from graphopt.passes.quantize.qdq.coarser import explain_coarser
from graphopt.passes.quantize.qdq.existing import Existing, is_whole, take_existing
from graphopt.passes.quantize.qdq.kept import kept_in_float
from graphopt.passes.quantize.qdq.placement import place
from graphopt.passes.quantize.qdq.rewrite import Rewriter
from graphopt.passes.quantize.qdq.tensors import tensor_params
from graphopt.passes.quantize.qdq.wide import (
    Activations,
    chosen_rules,
    explain_simulation,
    with_wide_types,
    without_kernel,
)
from graphopt.passes.recover.correct_bias import FLOAT_GRAPH
from graphopt.passes.recover.layers.inputs import layer_inputs
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
            data), "learned" (the output error on the calibration data is small, and biases make up
            for what is left of its mean), or "auto" (the planner takes what is nearer to the
            original on held-out samples; learned where nothing is planned).
        scales: of weights: "max" (the largest weight of an output is exact), or "mse" (large
            weights are clipped where that makes the squared error of all smaller).
        activations: "target" (the type that the target computes with), or "int16" or "uint16":
            16 bits beside 8-bit weights, which needs opset 21. Where the runtime has no kernel for
            them, operators run in float between their Q and DQ: a simulation for other runtimes.
            The planner then decides nothing.
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
    rounding: Literal["auto", "balanced", "learned"] = "balanced"
    scales: Literal["max", "mse"] = "max"
    activations: Activations = "target"

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
        if chosen_rules(context.target, self.activations).is_wide:
            return self._insert_wide(graph, context)
        if not graph.nodes("QuantizeLinear", "DequantizeLinear"):
            return self._insert(graph, context, Existing())
        return self._complete(graph, context)

    def _insert_wide(self, graph: Graph, context: Context) -> PassResult:
        newer = with_wide_types(graph)
        if isinstance(newer, str):
            for node in graph.nodes(*_HEAVY):
                context.explain(node, newer)
            return PassResult(False, (newer,))
        result = self._insert(newer, context, Existing())
        if result.modified:
            graph.assign(newer)
        return result

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
        rules = chosen_rules(context.target, self.activations)
        ranges = existing.ranges(context.ranges(graph, calibrated_tensors(graph, context.target)))
        table = fusion_table(context.target.runtime)
        placement = place(graph, table, ranges, existing.excluding(self._excluded(graph)))
        for node, reason in placement.reasons.items():
            context.explain(node, reason)
        chosen = [u.node for u in placement.units.values() if u.rule.role == "heavy"]
        if not chosen:
            return PassResult(False, ("no operator can be integer",))
        params = tensor_params(placement, ranges, rules, existing.params(placement))
        names = {n: n.label for n in graph.nodes(*_HEAVY)}
        inputs = layer_inputs(graph, context) if self.rounding != "balanced" else {}
        kept = existing.constants
        context.remember(FLOAT_GRAPH, graph.copy)
        rewriter = Rewriter(graph, placement, params, rules, context.remember, inputs, kept)
        rewriter.search_scales = self.scales == "mse"
        added = rewriter.run()
        for node in rewriter.protected:
            context.explain(node, "float between integers; protected from quantization at load")
        coarser = explain_coarser(rewriter.coarser, context)
        align = self.align and not existing and not rules.is_wide
        aligned = align_convolutions(graph, placement.units, rules) if align else 0
        simulated = explain_simulation(chosen, rules, table, context)
        kind = "simulated" if simulated else "integer"
        notes = [f"{len(chosen)} of {len(names)} heavy operators {kind}", f"{added} Q and DQ nodes"]
        if simulated:
            notes.append(simulated)
        metrics = {"integer": 0, kind: len(chosen), "heavy": len(names), "q_and_dq": added}
        if aligned:
            notes.append(counted(aligned, "thin convolution", "padded"))
        return PassResult(True, tuple(notes), {**metrics, **coarser})

    def _decline(self, graph: Graph, context: Context) -> str | None:
        if not context.has_data:
            return "no data: ranges are unknown"
        if self.placement == "float":
            return "float was chosen for the whole model"
        rules = chosen_rules(context.target, self.activations)
        missing = without_kernel(rules, fusion_table(context.target.runtime))
        if missing is not None and self.activations == "target":
            return missing
        if graph.opset < 13 and not rules.is_wide:
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
            name = node.label
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
