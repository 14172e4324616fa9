"""Write the sum of two matrix products as one: x W + h R = [x, h] [W; R].

Recurrent cells multiply the input and the state by a matrix each and add the results. One product
of the joined rows reads the same weights with one operator less, and is one place to quantize.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import static_shape
from graphopt.passes.base import PassResult
from graphopt.passes.patterns import building
from graphopt.passes.patterns.matching import is_onnxruntime, read_product
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context
    from graphopt.passes.patterns.matching import Product


@dataclass(frozen=True)
class MergeMatrixProducts:
    """Join two MatMul or Gemm by constants whose results are added into one.

    Args:
        max_rows: largest number of rows for which it is done: joining copies every row, which pays
            where the fixed cost of an operator counts (slower at 16 rows of 512, measured).
    """

    name: ClassVar[str] = "merge-matrix-products"
    effect: ClassVar[Effect] = Effect.EXACT
    max_rows: int = 1

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Merge every pair; a sum of three products is merged in two steps."""
        if not graph.nodes("Add"):
            return PassResult(False)
        if not is_onnxruntime(context.target):
            # With ranges fixed in advance, input and state would have to share one scale.
            return PassResult(False, (f"{context.target.name} cannot scale products as they run",))
        ir.infer_shapes(graph)
        merged = 0
        for add in graph.nodes("Add"):
            pair = self._pair(add)
            if pair is not None:
                _merge(graph, add, *pair)
                merged += 1
        if not merged:
            return PassResult(False)
        graph.sort()
        noun = "pair of products" if merged == 1 else "pairs of products"
        return PassResult(True, (f"{merged} {noun} merged",), {"pairs": merged})

    def _pair(self, add: Node) -> tuple[Product, Product] | None:
        if add.domain or len(add.inputs) != 2 or add.inputs[0] is add.inputs[1]:
            return None
        first, second = (read_product(v) for v in add.inputs)
        if first is None or second is None:
            return None
        rows = [static_shape(p.x) for p in (first, second)]
        if rows[0] is None or rows[1] is None or rows[0][:-1] != rows[1][:-1] or len(rows[0]) < 2:
            return None
        alone = all(
            len(p.node.outputs[0].uses) == 1 and not p.node.outputs[0].is_output
            for p in (first, second)
        )
        same_width = first.weight.shape[1] == second.weight.shape[1]
        fits = math.prod(rows[0][:-1]) <= self.max_rows
        return (first, second) if alone and same_width and fits else None


def _merge(graph: Graph, add: Node, first: Product, second: Product) -> None:
    output = add.outputs[0]
    shapes = [static_shape(p.x) or () for p in (first, second)]
    joined = (*shapes[0][:-1], shapes[0][-1] + shapes[1][-1])
    rows = building.concat(graph, [first.x, second.x], len(joined) - 1, joined)
    weight = graph.add_constant(
        f"{output.name}_weight", np.concatenate([first.weight, second.weight])
    )
    shape = (*joined[:-1], first.weight.shape[1])
    made = building.add_operator(graph, "MatMul", [rows, weight], shape, like=output)
    biases = [p.bias for p in (first, second) if p.bias is not None]
    if biases:
        bias = graph.add_constant(f"{output.name}_bias", np.sum(biases, axis=0, dtype=np.float32))
        made = building.add_operator(graph, "Add", [made, bias], shape, like=output)
    graph.replace_uses(output, made)
    graph.remove(add)
    graph.remove(first.node)
    graph.remove(second.node)
