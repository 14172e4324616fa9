"""Operands that must be constants in an older operator set, and are computed from constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.dims import is_at_least
from graphopt.ir.inference import inference_of
from graphopt.ir.inference.fact import as_dims, numbers
from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.inference import Inference
    from graphopt.ir.node import Node

_NAMED = frozenset({"Pad", "Slice", "Split", "Squeeze", "TopK", "Unsqueeze"})
"""Besides reductions: operators whose axes, sizes or counts were attributes once."""

_LEFT_OVER = -1


def settle_operands(graph: Graph) -> None:
    """Store axes and sizes that follow from constants, in place; drop what computed them.

    Also drops ``allowzero`` of a Reshape where it changes nothing.
    """
    inference = inference_of(graph)
    settled = False
    for node in list(graph.walk()):
        if node.op == "Reshape" and node.domain == "" and _copies_alike(node, inference):
            node.set_attribute("allowzero", None)
        if node.domain or not (node.op in _NAMED or node.op.startswith("Reduce")):
            continue
        for index, value in enumerate(node.inputs):
            if index == 0 or value is None or value.is_constant:
                continue
            fact = inference.fact(value)
            known = numbers(fact.elements)
            if known is None or fact.elements is None or fact.dtype is not DType.INT64:
                continue
            array = np.array(known, np.int64).reshape(fact.elements.shape)
            node.set_input(index, node.graph.add_constant(f"{value.name}_known", array))
            settled = True
    if settled:
        _drop_dead(graph)


def _copies_alike(node: Node, inference: Inference) -> bool:
    """Whether a 0 in the shape, if there ever is one, stands where the source has that length.

    Then it means the same whether it is copied or taken as it is.
    """
    source, wanted = (inference.fact(v) for v in node.inputs[:2])
    sizes = as_dims(wanted.elements)
    if not node.attribute("allowzero", 0) or sizes is None or source.dims is None:
        return False
    return all(
        is_at_least(size, 1)
        or size == _LEFT_OVER
        or (i < len(source.dims) and size == source.dims[i])
        for i, size in enumerate(sizes)
    )


def _drop_dead(graph: Graph) -> None:
    for node in [*graph.walk()][::-1]:
        if not node.subgraphs and not any(_is_read(node, i) for i in range(len(node.outputs))):
            node.graph.remove(node)


def _is_read(node: Node, index: int) -> bool:
    value = node.outputs[index]
    return bool(value.uses) or value.is_output
