"""Keep onnxruntime from joining a sum with the layer normalization behind it.

Its kernel for both together, SkipLayerNormalization, computes one element at a time; those of Add
and of LayerNormalization take vectors. A Sum is never joined. Measured in
benchmarks/results/operator_spellings.json.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.matching import is_onnxruntime, made_by
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.targets.base import Target

_OLDEST_OPSET = 17
"""The first with LayerNormalization; Sum broadcasts since opset 8."""
_RANKS = (2, 3)
"""Of tensors for which the two are joined."""
_MEASURED = "avx2"
"""The instruction set with which the kernels were compared."""
_FEWEST_ELEMENTS = 128
"""Measured (onnxruntime 1.31.1, Zen 4): a row of 64 is 4 % faster joined, one of 256 8 % slower."""


@dataclass(frozen=True)
class KeepSumsApart:
    """Write the Add before a LayerNormalization as Sum, which computes the same."""

    name: ClassVar[str] = "keep-sums-apart"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Rewrite every sum that would be joined, where the joined kernel is known to be slower."""
        if not _is_known_slower(context.target):
            return PassResult(False)
        norms = graph.nodes("LayerNormalization") if graph.opset >= _OLDEST_OPSET else []
        if not norms:
            return PassResult(False)
        ir.infer_shapes(graph)
        sums = dict.fromkeys(n for norm in norms if (n := _joined(norm)) is not None)
        for node in sums:
            node.op = "Sum"
            context.explain(node, "SkipLayerNormalization would be slower")
        note = counted(len(sums), "sum", "kept apart from the normalization behind it")
        return PassResult(bool(sums), (note,) if sums else (), {"sums": len(sums)})


def is_kept_apart(node: Node, target: Target) -> bool:
    """Whether a Sum stands where an Add would be joined with a normalization, and be slower."""
    readers = (n for n, index in node.outputs[0].uses if index == 0 and not n.domain)
    joined = any(n.op == "LayerNormalization" for n in readers)
    return joined and len(node.inputs) == 2 and _is_known_slower(target)


def _is_known_slower(target: Target) -> bool:
    return is_onnxruntime(target) and _MEASURED in target.isa


def _joined(norm: Node) -> Node | None:
    """Return the Add that onnxruntime would join with a normalization."""
    node = made_by(norm.inputs[0], "Add") if not norm.domain else None
    if node is None or node.graph is not norm.graph:
        return None
    shape = node.outputs[0].shape
    if node.outputs[0].dtype is not DType.FLOAT or shape is None or len(shape) not in _RANKS:
        return None
    if norm.attribute("axis", -1) not in {-1, len(shape) - 1}:
        return None
    if any(v is None or v.is_constant or len(v.shape or ()) != len(shape) for v in node.inputs):
        return None
    known = [d for d in shape if isinstance(d, int)]
    return node if len(known) < len(shape) or math.prod(known) >= _FEWEST_ELEMENTS else None
