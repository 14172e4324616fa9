"""Which part an operator plays between Q and DQ on a runtime, and how the target reads signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.analysis.quantization.pairs import (
    Affine,
    is_dequantize,
    quantizer_behind,
    stored_constant,
)
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Node
    from graphopt.targets.base import Target
    from graphopt.targets.fusion import FusionTable

HEAVY = ("Conv", "Gemm", "MatMul")
_ALSO_ELEMENTWISE = frozenset({"Softmax", "Where"})
_ALSO_MOVED = frozenset(
    {"Expand", "Gather", "GatherElements", "ReduceMax", "ReduceMin", "Split", "Tile"}
)


@dataclass(frozen=True)
class Rules:
    """What is executed in integer where: a runtime's table, and a target's element types."""

    table: FusionTable
    target: Target

    @property
    def signed_fuses(self) -> bool:
        """Whether int8 activations are fused as they are: on Arm, not on x86."""
        return bool(self.target.quantization.activations == "int8" or self.target.session_config)

    def role(self, node: Node) -> str | None:
        """Return heavy, elementwise, passthrough, absorbed, or None: always float."""
        rule = self.table.rule(node.op, node.domain)
        if rule is not None:
            return rule.role
        if node.domain:
            return None
        if node.op in _ALSO_ELEMENTWISE:
            return "elementwise"
        return "passthrough" if node.op in _ALSO_MOVED else None

    def bar(self, node: Node) -> str | None:
        """Return why opset or attributes of ``node`` forbid its integer kernel, or None."""
        rule = self.table.rule(node.op, node.domain)
        if rule is not None and node.graph.opset < rule.min_opset:
            return f"it is integer from opset {rule.min_opset} on; the model has {node.graph.opset}"
        for key, wanted in (rule.attributes if rule is not None else {}).items():
            if node.attribute(key, wanted) != wanted:
                return f"it is integer only with {key}={wanted}"
        if node.op == "Gemm" and not _is_plain(node):
            return "with a bias it is integer only with alpha = beta = 1"
        if node.op == "AveragePool" and any(d != 1 for d in node.attribute("dilations", [])):
            return "it is integer only without dilations"
        return None


def _is_plain(gemm: Node) -> bool:
    scaled = gemm.attribute("alpha", 1.0) != 1.0 or gemm.attribute("beta", 1.0) != 1.0
    return not scaled or len(gemm.inputs) < 3


def signed_with_several_readers(dequantize: Node, parameters: Affine, rules: Rules) -> bool:
    """Whether an int8 activation stays signed on x86: its Q has more than one reader, or is none.

    onnxruntime changes int8 to uint8 only where the Q has exactly one DQ behind it.
    """
    if parameters.dtype is not DType.INT8 or rules.signed_fuses:
        return False
    if stored_constant(dequantize) is not None:
        return False
    source = quantizer_behind(dequantize)
    return source is None or readers_of(source) != 1


def readers_of(quantize: Node) -> int:
    """Return how many DQs a Q has once the runtime has given each operator a DQ of its own."""
    stored = quantize.outputs[0]
    count = int(stored.is_output)
    for node, _ in stored.uses:
        value = node.outputs[0]
        count += max(len(value.uses) + value.is_output, 1) if is_dequantize(node) else 1
    return count
