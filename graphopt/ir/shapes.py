"""Shape propagation: onnx's rules, and ours where it gives up or loses the symbols."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.inference import inference_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Value


def infer_shapes(graph: Graph, dims: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Set dtype and shape of every tensor that they can be derived for, in place.

    Dimensions that follow from symbols are written as expressions of them, such as ``2*seq`` or
    ``past+seq``: equal texts are equal lengths. A length that depends on the data gets a symbol
    of its own, which begins with ``?``. Shapes inside If, Loop and Scan are derived too.

    Args:
        graph: outermost graph; symbolic dimensions stay symbolic.
        dims: sizes for symbols, put in their place everywhere first.

    Returns:
        What is wrong with nodes whose shapes could not be derived because they break a rule of
        ONNX; the others are derived all the same.
    """
    if dims:
        for value in graph.values():
            value.shape = _bound(value, dims)
    return tuple(inference_of(graph, write=True).notes)


def _bound(value: Value, dims: Mapping[str, int]) -> tuple[int | str | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(dims.get(d, d) if isinstance(d, str) else d for d in value.shape)
