"""Move large channels of activations into the weights of the products that read them.

    (x S^-1) (S W) = x W,   S = diag(s),  s_j = max|x_j|^a / max|w_j|^(1 - a)

A weight has a scale per output and can carry the difference between its inputs; an activation has
one scale for all. The division is folded into what writes x: the gain of a normalization, or a
linear operator, so that nothing is left to do at run time.

Source: Xiao et al. 2022 (SmoothQuant), arXiv:2211.10438, sec. 4; the exponent is searched for each
tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.base import PassResult, counted
from graphopt.passes.patterns.building import replace_constant
from graphopt.passes.recover.layers.inputs import weight_matrix
from graphopt.passes.recover.layers.peaks import ChannelPeaks, channel_peaks
from graphopt.passes.recover.layers.scaling import divisors, predicted_error
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_PRODUCTS = ("Gemm", "MatMul")
_NORMS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})
_EXPONENTS = tuple(i / 10 for i in range(1, 10))
_WORTH = 0.95


@dataclass(frozen=True)
class SmoothActivations:
    """Scale the channels that matrix products read, where what writes them can take it back.

    Args:
        exponent: a, from 0 (all the burden on activations) to 1 (all on weights); below 0, each
            tensor gets the one with the smallest predicted output error.
    """

    name: ClassVar[str] = "smooth-activations"
    effect: ClassVar[Effect] = Effect.EXACT
    exponent: float = -1.0

    def __post_init__(self) -> None:
        if not self.exponent <= 1.0:
            raise RecipeError(
                f"exponent {self.exponent:g} is above 1",
                code="G103",
                hint="0 to 1, or -1 to search",
            )

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Smooth every tensor that only products read; without data nothing is changed."""
        if not context.has_data:
            return PassResult(False, ("no data: ranges are unknown",))
        ir.infer_shapes(graph)
        points = {v.name: v for v in _points(graph)}
        peaks = channel_peaks(graph, context, dict.fromkeys(points, -1))
        done = 0
        for name, value in points.items():
            scales = self._scales(value, peaks[name]) if name in peaks else None
            if scales is None:
                continue
            _divide(graph, _writers(value), scales)
            for node in value.consumers:
                _multiply(graph, node, scales)
                context.explain(node, "its input was smoothed")
            done += 1
        if not done:
            return PassResult(False)
        return PassResult(True, (counted(done, "tensor", "smoothed"),), {"tensors": done})

    def _scales(self, value: Value, seen: ChannelPeaks) -> Array | None:
        """Return by what each channel is divided; None where that would not pay."""
        weight = np.concatenate([_reading(n) for n in value.consumers], axis=1)
        if weight.shape[2] != len(seen.peak):
            return None
        exponents = [self.exponent] if self.exponent >= 0 else _EXPONENTS
        candidates = [divisors(seen.peak, weight, a) for a in exponents]
        errors = [predicted_error(weight, seen, s) for s in candidates]
        best = int(np.argmin(errors))
        before = predicted_error(weight, seen, np.ones_like(seen.peak))
        return candidates[best] if errors[best] < before * _WORTH else None


def _reading(node: Node) -> Array:
    """Return the weight of a product as [1, outputs, channels, 1]."""
    value = node.inputs[1]
    assert value is not None
    return weight_matrix(node, value.array().astype(np.float64))[..., None]


def _points(graph: Graph) -> list[Value]:
    """Return the tensors that only products read, and whose writer can be scaled."""
    found: dict[Value, None] = {}
    for node in graph.nodes(*_PRODUCTS):
        value = node.inputs[0] if node.inputs else None
        if value is not None and not value.is_constant and value.dtype is DType.FLOAT:
            found[value] = None
    return [v for v in found if _only_products_read(v, graph) and _writers(v)]


def _only_products_read(value: Value, graph: Graph) -> bool:
    if value.is_output or value.is_input:
        return False
    return all(
        index == 0 and node.graph is graph and _is_product(node) for node, index in value.uses
    )


def _is_product(node: Node) -> bool:
    if node.op not in _PRODUCTS or node.domain or node.attribute("transA", 0):
        return False
    weight = node.inputs[1]
    if weight is None or not weight.is_constant or weight.dtype is not DType.FLOAT:
        return False
    return len(weight.shape or ()) == 2 and len(weight.uses) == 1


def _writers(value: Value) -> list[tuple[Node, int]]:
    """Return the (node, input) constants to divide so that ``value`` is divided; empty if none."""
    node = value.producer
    channels = value.shape[-1] if value.shape else None
    if node is None or node.graph is not value.graph or not isinstance(channels, int):
        return []
    if node.op in _NORMS and node.attribute("axis", -1) in {-1, len(value.shape or ()) - 1}:
        used = [o for o in node.outputs if o.name and (o.uses or o.is_output)]
        rows = [(node, i) for i in range(1, len(node.inputs)) if node.inputs[i] is not None]
        return rows if len(used) == 1 and _are_rows(rows, channels) else []
    if node.op in {"Mul", "Add"} and not node.domain:
        return _row_writers(node, channels)
    if _is_product(node) and (node.op == "MatMul" or node.attribute("alpha", 1.0) == 1.0):
        rows = [(node, 2)] if len(node.inputs) > 2 and node.inputs[2] is not None else []
        plain = node.attribute("beta", 1.0) == 1.0
        return [(node, 1), *rows] if plain and _are_rows(rows, channels) else []
    return []


def _row_writers(node: Node, channels: int) -> list[tuple[Node, int]]:
    """Return what to divide where a constant row is multiplied or added."""
    index = next((i for i, v in enumerate(node.inputs) if v is not None and v.is_constant), None)
    if index is None or not _are_rows([(node, index)], channels):
        return []
    if node.op == "Mul":
        return [(node, index)]
    before = node.inputs[1 - index]
    if before is None or before.is_output or len(before.uses) != 1:
        return []
    further = _writers(before)
    return [(node, index), *further] if further else []


def _are_rows(places: Sequence[tuple[Node, int]], channels: int) -> bool:
    """Whether constants hold one float32 number per channel along their last axis."""
    for node, index in places:
        value = node.inputs[index]
        if value is None or not value.is_constant or value.dtype is not DType.FLOAT:
            return False
        shape = value.array().shape
        if not shape or shape[-1] != channels or value.array().size != channels:
            return False
    return True


def _divide(graph: Graph, places: Sequence[tuple[Node, int]], scales: Array) -> None:
    for node, index in places:
        value = node.inputs[index]
        assert value is not None
        by_rows = index == 1 and node.op == "Gemm" and bool(node.attribute("transB", 0))
        factor = scales[:, None] if by_rows else scales
        replace_constant(graph, node, index, value.array() / factor)


def _multiply(graph: Graph, node: Node, scales: Array) -> None:
    value = node.inputs[1]
    assert value is not None
    by_rows = node.op == "Gemm" and bool(node.attribute("transB", 0))
    replace_constant(graph, node, 1, value.array() * (scales if by_rows else scales[:, None]))
