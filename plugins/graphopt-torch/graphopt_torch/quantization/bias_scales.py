"""Scales of int32 biases: always that of the input times that of the weight.

An integer kernel adds the bias to its sums, whose scale that is; a runtime that finds another one
computes the operator in float, or something else than the graph says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt.analysis.quantization.pairs import dequantizer, stored_constant
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Graph, Node

    Array = np.ndarray[Any, Any]

Tensor = torch.Tensor


@dataclass(frozen=True)
class BiasScale:
    """A scale that follows from two others.

    Args:
        name: of its initializer.
        source: name of the scale of the input, one number.
        weight: name of the scale of the weight.
        start: as stored.
        product: of the two others at the start, float32 in the shape of ``start``.
    """

    name: str
    source: str
    weight: str
    start: Array
    product: Array

    def value(self, scale: Callable[[str], Tensor]) -> Tensor:
        """Return the scale now; ``scale`` gives those of input and weight by name.

        A stored scale that is not the product, but near it, stays as far from it.
        """
        made = scale(self.source).reshape(()) * scale(self.weight)
        made = made.reshape(self.start.shape)
        if np.array_equal(self.start, self.product):
            return made
        start, product = (
            torch.from_numpy(np.array(a)).to(made.device) for a in (self.start, self.product)
        )
        return start * (made / product)


def bias_scales(graph: Graph) -> tuple[list[BiasScale], set[str]]:
    """Return the scales of biases that follow from others, and the scales that must not change.

    The latter are those of inputs and weights whose bias has a scale that is used twice.
    """
    found: dict[str, BiasScale] = {}
    fixed: set[str] = set()
    for node in graph.walk():
        made = _of_node(node)
        if made is None:
            continue
        known = found.setdefault(made.name, made)
        if (known.source, known.weight) != (made.source, made.weight):
            fixed |= {made.source, made.weight, known.source, known.weight}
    return list(found.values()), fixed


def _of_node(node: Node) -> BiasScale | None:
    if node.op not in {"Conv", "ConvTranspose", "Gemm"} or len(node.inputs) < 3:
        return None
    parts = [dequantizer(v) for v in node.inputs[:3]]
    if any(p is None for p in parts):
        return None
    bias = parts[2]
    assert bias is not None
    stored = stored_constant(bias)
    scales = [p.inputs[1] for p in parts if p is not None]
    if stored is None or stored.dtype is not DType.INT32:
        return None
    if any(s is None or not s.is_initializer for s in scales):
        return None
    one, two, own = (np.asarray(s.array(), dtype=np.float32) for s in scales if s is not None)
    names = [s.name for s in scales if s is not None]
    if one.size != 1 or two.size not in {1, own.size}:
        return None
    product = np.broadcast_to((one.reshape(()) * two).reshape(-1), (own.size,)).reshape(own.shape)
    return BiasScale(names[2], names[0], names[1], own.copy(), np.ascontiguousarray(product))
