"""Recognise a root-mean-square normalization that is spelled out and write it as one operator.

y = x / sqrt(mean(x²) + ε) * scale over the last axes (Zhang and Sennrich 2019, equation 4) is
RMSNormalization of opset 23. In models of older sets onnxruntime joins the operators itself if
they divide; with a reciprocal, as torch's newer exporter writes them, or without a scale it does
not, and then the model is rewritten for opset 23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import is_onnxruntime
from graphopt.passes.patterns.normalization import (
    Normalization,
    divided_by_root,
    is_float,
    mean_square,
    operand,
    scaled,
    stabilized,
    write_normalizations,
)
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_OPSET = 23


@dataclass(frozen=True)
class FuseRmsNorm:
    """Turn spelled-out root-mean-square normalizations over the last axes into RMSNormalization."""

    name: ClassVar[str] = "fuse-rms-norm"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every match, in models for opset 23 or where the runtime would not join it."""
        if not is_onnxruntime(context.target):
            return PassResult(False)
        found = _matches(graph)
        if graph.opset < _OPSET and all(each.usual for each in found):
            return PassResult(False)
        return write_normalizations(graph, _OPSET, _matches, _fuse, "normalization")


def _matches(graph: Graph) -> list[Normalization]:
    if not graph.nodes("ReduceMean"):
        return []
    ir.infer_shapes(graph)
    found = (_match(node) for node in graph.nodes("Mul", "Div"))
    return [each for each in found if each is not None]


def _match(node: Node) -> Normalization | None:
    """Return the normalization that this division of x by sqrt(...) begins."""
    for division in divided_by_root(node):
        inner = stabilized(division.inner)
        mean = mean_square(inner[0]) if inner is not None else None
        if inner is None or mean is None or mean.of is not division.numerator:
            continue
        if not is_float(mean.of, mean.axis):
            continue
        x, axis = mean.of, mean.axis
        scale, result = scaled(node.outputs[0], x, axis, node)
        usual = division.usual and scale is not None
        return Normalization(x, axis, inner[1], scale, None, result, usual)
    return None


def _fuse(graph: Graph, found: Normalization, x: Value) -> Value:
    made = building.add_operator(
        graph,
        "RMSNormalization",
        [x, operand(graph, found.scale, found)],
        found.x.shape,
        {"axis": found.axis, "epsilon": found.epsilon},
        like=found.result,
    )
    graph.replace_uses(found.result, made)
    return made
