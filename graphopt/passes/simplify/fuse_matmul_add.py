"""Join a matrix product and the addition of a constant row into one Gemm.

onnxruntime does the same when it loads a model, but with a float bias that its integer Gemm cannot
take; done here, the bias is quantized with the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt import ir
from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_TYPES = frozenset({DType.FLOAT, DType.DOUBLE, DType.FLOAT16})


@dataclass(frozen=True)
class FuseMatmulAdd:
    """Turn MatMul of a matrix by a constant, then Add of a constant row, into Gemm."""

    name: ClassVar[str] = "fuse-matmul-add"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fuse every pair whose ranks are known to fit; say why others stay."""
        ir.infer_shapes(graph)
        fused = 0
        for product in graph.nodes("MatMul"):
            add = _only_add(product)
            if add is None or product.domain:
                continue
            bias = _row(product, add)
            if bias is None:
                context.explain(product, "its operands do not have the shapes that Gemm takes")
                continue
            product.op = "Gemm"
            product.set_input(2, bias)
            graph.replace_uses(add.outputs[0], product.outputs[0])
            graph.remove(add)
            fused += 1
        if not fused:
            return PassResult(False)
        return PassResult(True, (counted(fused, "pair", "fused"),), {"pairs": fused})


def _only_add(product: Node) -> Node | None:
    """Return the Add that alone reads the product."""
    output = product.outputs[0]
    if output.is_output or len(output.uses) != 1:
        return None
    reader = output.consumers[0]
    plain = reader.op == "Add" and not reader.domain and reader.graph is product.graph
    return reader if plain else None


def _row(product: Node, add: Node) -> Value | None:
    """Return the constant that is added to each row, if the pair is what Gemm computes."""
    left, weight = product.inputs
    if left is None or weight is None or not weight.is_constant or left.dtype not in _TYPES:
        return None
    if len(left.shape or ()) != 2 or len(weight.shape or ()) != 2:
        return None
    bias = next((v for v in add.inputs if v is not product.outputs[0]), None)
    if bias is None or not bias.is_constant:
        return None
    columns = weight.array().shape[1]
    return bias if bias.array().shape in {(columns,), (1, columns)} else None
