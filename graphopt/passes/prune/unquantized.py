"""A quantized model in float, so that what is left of its layers can be fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.passes.quantize.qdq.existing import take_existing
from graphopt.passes.simplify.fuse_matmul_add import FuseMatmulAdd

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context

_PAIRS = ("QuantizeLinear", "DequantizeLinear")


def unquantized(graph: Graph, context: Context) -> Graph | None:
    """Return a model without its Q and DQ, its weights being the numbers that its integers mean.

    None where it has none, where they cannot be read, or where nothing could be fitted or quantized
    anew, as there are no data; such a model is pruned as it stands.

    Args:
        graph: the model; not changed.
        context: has the target, whose element types are looked for, and the data.
    """
    if not graph.nodes(*_PAIRS) or not context.has_data:
        return None
    made = graph.copy()
    ir.infer_shapes(made)
    if take_existing(made, context.target.quantization) is None or made.nodes(*_PAIRS):
        return None
    # Between Q and DQ the pairs of product and bias could not be seen before.
    FuseMatmulAdd().run(made, context)
    made.sort()
    ir.infer_shapes(made)
    return made
