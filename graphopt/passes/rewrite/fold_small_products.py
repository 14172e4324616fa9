"""Fold a product with a small constant matrix into the convolutions whose results it mixes.

Detection heads write the scores of each anchor as neighbouring channels, bring channels to the end,
cut them into rows and join the rows of all feature maps. A product that mixes the numbers of a row
mixes neighbouring channels, which the convolutions can do themselves:
    W'[n j + a] = sum over b of K[b, a] W[n j + b]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import only_consumer
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import replace_constant
from graphopt.passes.patterns.matching import made_by
from graphopt.passes.simplify.bypass import bypass
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_LARGEST = 8
"""Rows of the matrix, beyond which other rewrites are better placed."""
_CHANNELS = 1


@dataclass(frozen=True)
class FoldSmallProducts:
    """Fold x @ K, K at most 8 by 8, into Conv where x is rows of neighbouring channels.

    Between the convolutions and the product there may be Transpose (channels last), Reshape (to
    rows as long as K is high) and Concat (not along the rows), which nothing else reads.
    """

    name: ClassVar[str] = "fold-small-products"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Fold each product whose convolutions are all found; say why others stay."""
        products = [(n, _matrix(n)) for n in graph.nodes("MatMul")]
        if all(matrix is None for _, matrix in products):
            return PassResult(False)
        ir.infer_shapes(graph)
        folded = 0
        for node, matrix in products:
            rows = node.inputs[0]
            if matrix is None or rows is None or not rows.shape:
                continue
            found = _convolutions(rows, node, len(matrix))
            if not found:
                context.explain(node, "what it mixes is not neighbouring channels of convolutions")
                continue
            for convolution in found:
                _mix(graph, convolution, matrix)
            folded += bypass(graph, node, rows)
        if not folded:
            return PassResult(False)
        return PassResult(True, (counted(folded, "product", "folded"),), {"products": folded})


def _matrix(node: Node) -> Array | None:
    """Return the small square constant that rows are multiplied by."""
    constant = node.inputs[1]
    if node.domain or constant is None or constant.tensor is None or node.inputs[0] is None:
        return None
    shape = constant.tensor.shape
    if constant.dtype is not DType.FLOAT or len(shape) != 2 or shape[0] != shape[1]:
        return None
    values = constant.array()
    return values if shape[0] <= _LARGEST and bool(np.isfinite(values).all()) else None


def _convolutions(value: Value, reader: Node, block: int) -> list[Node]:
    """Return the convolutions that a value is joined from; none where the way is not clear."""
    node = made_by(value, "Concat", "Reshape", "Transpose")
    if node is None or only_consumer(value) is not reader or not _keeps_blocks(node, block):
        return []
    if node.op == "Transpose":
        source = node.inputs[0]
        convolution = made_by(source, "Conv")
        alone = source is not None and only_consumer(source) is node
        return [convolution] if convolution and alone and _mixes(convolution, block) else []
    sources = node.inputs if node.op == "Concat" else node.inputs[:1]
    found = [_convolutions(v, node, block) if v is not None else [] for v in sources]
    return [c for part in found for c in part] if all(found) else []


def _keeps_blocks(node: Node, block: int) -> bool:
    """Whether neighbours along the last axis of the result were neighbours before."""
    made, source = node.outputs[0].shape, node.inputs[0].shape if node.inputs[0] else None
    if not made or not source:
        return False
    if node.op == "Concat":
        return bool(node.attribute("axis", 0) % len(made) != len(made) - 1)
    if node.op == "Transpose":
        return bool((node.attribute("perm") or [0])[-1] == _CHANNELS)
    ends = (made[-1], source[-1])
    return all(isinstance(d, int) and d > 0 and d % block == 0 for d in ends)


def _mixes(node: Node, block: int) -> bool:
    """Whether the output channels of a Conv can be mixed, block by block."""
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or weight.tensor is None or weight.dtype is not DType.FLOAT:
        return False
    if len(weight.uses) > 1 or (bias is not None and bias.tensor is None):
        return False
    in_group = weight.tensor.shape[0] // int(node.attribute("group", 1))
    return in_group % block == 0


def _mix(graph: Graph, node: Node, matrix: Array) -> None:
    for index in (1, 2):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            continue
        old = value.array()
        blocks = old.astype(np.float64).reshape(-1, len(matrix), old[0].size)
        mixed = np.einsum("ba,jbk->jak", matrix.astype(np.float64), blocks)
        replace_constant(graph, node, index, mixed.reshape(old.shape), "mixed")
