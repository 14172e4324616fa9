"""Put an activation before the pooling that separates it from its convolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.analysis import only_consumer, scalar
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.matching import made_by
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class LiftActivations:
    """Turn Conv, MaxPool, Relu into Conv, Relu, MaxPool, so that runtimes fuse the first two.

    Relu, LeakyRelu and Clip never decrease, so the largest value stays the largest. A fused
    activation costs nothing, where one of its own passes over the feature map once more.
    """

    name: ClassVar[str] = "lift-activations"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Swap each pair behind a convolution that only the pooling reads."""
        lifted = sum(_lift(graph, node) for node in graph.nodes("Relu", "LeakyRelu", "Clip"))
        if not lifted:
            return PassResult(False)
        graph.sort()
        return PassResult(True, (counted(lifted, "activation", "lifted"),), {"nodes": lifted})


def _lift(graph: Graph, activation: Node) -> bool:
    pooled = activation.inputs[0]
    pool = made_by(pooled, "MaxPool")
    if activation.domain or pool is None or pooled is None or not _never_decreases(activation):
        return False
    if pool.attribute("ceil_mode", 0) or any(d != 1 for d in pool.attribute("dilations", [])):
        return False  # a window may then lie beside the input, and hold less than any number
    source = pool.inputs[0]
    if only_consumer(pooled) is not activation or len(pool.outputs) != 1 or source is None:
        return False
    if made_by(source, "Conv") is None or only_consumer(source) is not pool:
        return False
    output = activation.outputs[0]
    graph.replace_uses(output, pooled)
    activation.set_input(0, source)
    pool.set_input(0, output)
    output.dtype, output.shape = source.dtype, source.shape
    return True


def _never_decreases(node: Node) -> bool:
    source = node.inputs[0]
    if source is None or source.dtype is DType.INT8 or source.dtype is DType.UINT8:
        return False
    if node.op == "LeakyRelu":
        return bool(node.attribute("alpha", 0.01) >= 0)
    if node.op == "Clip":
        bounds = [scalar(v) for v in node.inputs[1:] if v is not None]
        return None not in bounds
    return True
