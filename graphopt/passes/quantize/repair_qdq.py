"""Repair the Q and DQ of a model that another tool quantized, so that its operators fuse.

The scales, the integers of weights and the real function stay. What the repairs leave out or add
is rounding: a pair that only rounded, half a step of a bias. Integer kernels also round otherwise
than the float operators in their place, by a step now and then, which is why the effect counts as
approximate and is measured.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.analysis.quantization import Rules
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult
from graphopt.passes.quantize.repairs import biases, constants, pairs, parameters
from graphopt.targets.fusion import fusion_table
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.targets.base import Target

    Repair = Callable[[Graph, Rules], list[Node]]

_FORM: tuple[tuple[Repair, str], ...] = (
    (parameters.newer_opset, "operator brought to opset 13"),
    (parameters.rank_zero_scales, "scale stored with rank 0"),
    (parameters.zero_points, "omitted zero point written"),
    (parameters.equal_scales, "vector of equal scales replaced by one"),
    (pairs.same_again, "DQ and Q of the same parameters joined"),
    (pairs.moved_outputs, "moved data quantized for the product that reads it"),
)

_EXACT: tuple[tuple[Repair, str], ...] = (
    (constants.operands, "float operand stored in 8 bits"),
    (parameters.unsigned_activations, "int8 stored as uint8, zero point raised by 128"),
    (parameters.signed_weights, "uint8 weight stored as int8, zero point lowered by 128"),
    (biases.bias_scales, "bias stored in the scale of the sums"),
    (biases.matmul_biases, "bias kept apart from its MatMul, or made int32"),
    (biases.gemm_biases, "float bias of a Gemm stored as int32"),
    (constants.float_weights, "weight that no kernel reads stored in float"),
    (constants.plain_weights, "integer weight of a Gemm transposed"),
    (pairs.own_dequantizers, "shared weight given a DQ for each reader"),
    (pairs.protected, "excluded operator protected from quantization at load"),
    (parameters.unsaturated_weights, "weight that could saturate 16 bits stored as uint8"),
)
"""The repairs in order: later ones count on what earlier ones mend."""

_WIDENING: tuple[tuple[Repair, str], ...] = (
    (pairs.idle_pairs, "Q and DQ between float operators removed"),
    (parameters.moved_parameters, "moved data quantized as its source"),
    (pairs.integer_clips, "Clip of integers between Q and DQ removed"),
    (parameters.zeros_behind_relu, "zero point behind a Relu put at the smallest integer"),
)


@dataclass(frozen=True)
class RepairQdq:
    """Mend what keeps quantized operators in float, without changing scales or weights.

    Args:
        widen: also mend what takes a rounding or a saturation away: Q and DQ between float
            operators go, moved data is quantized as its source, integer Clips between Q and DQ go,
            and a Q behind a Relu gets its zero point at the smallest integer.
    """

    name: ClassVar[str] = "repair-qdq"
    effect: ClassVar[Effect] = Effect.APPROXIMATE
    widen: bool = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Apply every repair to the top level of the graph; say at each node what was done."""
        if not graph.nodes("QuantizeLinear", "DequantizeLinear"):
            return PassResult(False, ("the model has no Q and DQ",))
        counts = repair(graph, context.target, context.explain, widen=self.widen)
        notes = tuple(f"{count} x {what}" for what, count in counts.items())
        return PassResult(bool(counts), notes, {"repairs": sum(counts.values())})


def repair(
    graph: Graph,
    target: Target,
    explain: Callable[[Node, str], None] = lambda node, reason: None,
    *,
    widen: bool = True,
) -> dict[str, int]:
    """Repair the Q and DQ of ``graph`` in place; return how often each repair was needed.

    Args:
        graph: any quantized graph; subgraphs are left alone.
        target: whose kernels are aimed at.
        explain: is told at each mended node what was done.
        widen: see ``RepairQdq``.
    """
    # Where inference fails, what is known of types and shapes will have to do.
    with contextlib.suppress(ModelError):
        ir.infer_shapes(graph)
    rules = Rules(fusion_table(target.runtime), target)
    counts: dict[str, int] = {}
    for mend, what in (*_FORM, *(_WIDENING if widen else ()), *_EXACT):
        mended = mend(graph, rules)
        for node in mended:
            explain(node, what)
        if mended:
            counts[what] = len(mended)
    if counts:
        graph.sort()
    return counts
