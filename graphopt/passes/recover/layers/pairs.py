"""Two layers with nothing between them that minds how large a channel is, but for a Clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis import scalar
from graphopt.passes.patterns.building import replace_constant
from graphopt.passes.recover.layers.inputs import weight_matrix
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_MATRICES = ("Gemm", "MatMul")
_ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "PRelu", "Dropout", "Identity"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})


@dataclass(frozen=True)
class LayerPair:
    """A layer, the additions of constants after it, and the layer that alone reads its channels.

    Args:
        first: writes the channels.
        adds: additions of a constant row behind a MatMul.
        second: reads them.
        between: the tensor that ``second`` reads.
        axis: of the channels in it.
        bound: of a Clip to [0, bound] between the layers; infinite where there is none.
    """

    first: Node
    adds: tuple[Node, ...]
    second: Node
    between: Value
    axis: int
    bound: float = math.inf

    def reading_weight(self) -> Array:
        """Return the weight of ``second``, float64 [groups, outputs, channels, taps]."""
        weight = self.second.inputs[1]
        assert weight is not None
        matrix = weight_matrix(self.second, weight.array().astype(np.float64))
        groups, outputs, features = matrix.shape
        taps = int(np.prod(weight.array().shape[2:])) if self.second.op == "Conv" else 1
        return matrix.reshape(groups, outputs, features // taps, taps)

    def weight_of(self, channels: int) -> Array | None:
        """Return the weight of ``second``; None where it does not read that many channels."""
        weight = self.reading_weight()
        return weight if weight.shape[0] * weight.shape[2] == channels else None

    def writing_range(self) -> Array:
        """Return the largest magnitude of the weights that write each channel; [channels]."""
        weight = self.first.inputs[1]
        assert weight is not None
        matrix = np.abs(weight_matrix(self.first, weight.array().astype(np.float64)))
        return np.asarray(matrix.max(axis=2, initial=0.0).reshape(-1))

    def scale(self, graph: Graph, scales: Array) -> None:
        """Divide what writes each channel by its scale, and multiply what reads it.

        Args:
            graph: of both layers.
            scales: float64 [channels], positive.
        """
        self._scale_writing(graph, scales)
        weight = self.second.inputs[1]
        assert weight is not None
        array = weight.array()
        if self.second.op == "Conv":
            per_group = scales.reshape(int(self.second.attribute("group", 1)), 1, -1)
            outputs = array.shape[0] // len(per_group)
            factor = np.repeat(per_group, outputs, axis=1).reshape(array.shape[:2])
            factor = factor.reshape(factor.shape + (1,) * (array.ndim - 2))
        else:
            factor = scales[None] if _outputs_first(self.second) else scales[:, None]
        replace_constant(graph, self.second, 1, array * factor)

    def _scale_writing(self, graph: Graph, scales: Array) -> None:
        weight = self.first.inputs[1]
        assert weight is not None
        array = weight.array()
        if self.first.op == "Conv":
            factor = scales.reshape((-1,) + (1,) * (array.ndim - 1))
        else:
            factor = scales[:, None] if _outputs_first(self.first) else scales[None]
        replace_constant(graph, self.first, 1, array / factor)
        if len(self.first.inputs) > 2 and self.first.inputs[2] is not None:
            replace_constant(graph, self.first, 2, self.first.inputs[2].array() / scales)
        for add in self.adds:
            index = next(i for i, v in enumerate(add.inputs) if v is not None and v.is_constant)
            row = add.inputs[index]
            assert row is not None
            replace_constant(graph, add, index, row.array() / scales)


def layer_pairs(graph: Graph, context: Context) -> list[LayerPair]:
    """Return the pairs of layers whose channels in between can be scaled, in order."""
    return [p for p in _pairs(graph, context) if math.isinf(p.bound)]


def clipped_pairs(graph: Graph, context: Context) -> list[LayerPair]:
    """Return the pairs with a Clip to [0, bound] in between, in order.

    There a channel can be made larger as long as it stays below the bound.
    """
    return [p for p in _pairs(graph, context) if not math.isinf(p.bound)]


def _pairs(graph: Graph, context: Context) -> Iterator[LayerPair]:
    for node in graph.nodes("Conv", *_MATRICES):
        if not _is_layer(node):
            continue
        found = _follow(node)
        if isinstance(found, LayerPair):
            yield found
        elif found:
            context.explain(node, found)


def _is_layer(node: Node) -> bool:
    """Whether a node is a product with float32 constants that can be scaled per channel."""
    if node.domain or len(node.inputs) < 2 or node.inputs[0] is None:
        return False
    weight = node.inputs[1]
    if weight is None or not weight.is_constant or weight.dtype is not DType.FLOAT:
        return False
    rank = len(weight.shape or ())
    if rank < 2 or (node.op != "Conv" and rank != 2) or len(weight.uses) > 1:
        return False
    if node.op == "Gemm" and (node.attribute("transA", 0) or node.attribute("alpha", 1.0) != 1.0):
        return False
    return _bias_fits(node)


def _bias_fits(node: Node) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return True
    if not bias.is_constant or bias.dtype is not DType.FLOAT:
        return False
    if node.op == "Gemm" and node.attribute("beta", 1.0) != 1.0:
        return False
    return bool(bias.array().shape[-1:] == (output_channels(node),))


def output_channels(node: Node) -> int:
    """Return how many channels a Conv, Gemm or MatMul with constant weight writes."""
    weight = node.inputs[1]
    assert weight is not None
    shape = weight.array().shape
    return int(shape[0] if node.op == "Conv" or _outputs_first(node) else shape[1])


def _outputs_first(node: Node) -> bool:
    return node.op == "Gemm" and bool(node.attribute("transB", 0))


def _follow(first: Node) -> LayerPair | str:
    """Return the pair that starts at a layer, or why there is none; empty where it is obvious."""
    value = first.outputs[0]
    adds: list[Node] = []
    bound = math.inf
    while True:
        if value.is_output or len(value.uses) != 1:
            return "its output has other readers" if value.uses else ""
        reader, index = value.uses[0]
        if reader.graph is not first.graph or reader.domain:
            return ""
        if _is_layer(reader) and index == 0 and (reader.op == "Conv") == (first.op == "Conv"):
            return _joined(first, adds, reader, value, bound)
        clipped = _clip_bound(reader) if reader.op == "Clip" and index == 0 else None
        if clipped is not None:
            bound = min(bound, clipped)
        elif not _passes(reader, index, first, value):
            return f"{reader.op} behind it needs its channels as they are" * (reader.op == "Clip")
        # What is added behind a Clip would move a channel that the Clip has bounded.
        if reader.op == "Add":
            if not math.isinf(bound):
                return "a constant is added behind its Clip"
            adds.append(reader)
        value = reader.outputs[0]


def _clip_bound(clip: Node) -> float | None:
    """Return the upper bound of a Clip to [0, bound] with constants; None for any other."""
    given = [scalar(v) if v is not None else None for v in clip.inputs[1:3]]
    if len(given) != 2 or given[0] != 0.0 or given[1] is None:
        return None
    return float(given[1]) if 0.0 < given[1] < math.inf else None


def _joined(
    first: Node, adds: list[Node], second: Node, between: Value, bound: float
) -> LayerPair | str:
    weight = second.inputs[1]
    assert weight is not None
    if second.op == "Conv":
        read = weight.array().shape[1] * int(second.attribute("group", 1))
    else:
        read = weight.array().shape[1 if _outputs_first(second) else 0]
    if read != output_channels(first):
        return "the layer behind it reads another number of channels"
    axis = 1 if first.op == "Conv" else -1
    return LayerPair(first, tuple(adds), second, between, axis, bound)


def _passes(node: Node, index: int, first: Node, value: Value) -> bool:
    """Whether scaling the channels before a node is the same as scaling them after it."""
    if len([o for o in node.outputs if o.name and (o.uses or o.is_output)]) != 1:
        return False
    if node.op == "Add":
        other = node.inputs[1 - index]
        return (
            first.op != "Conv"
            and other is not None
            and other.is_constant
            and other.dtype is DType.FLOAT
            and other.array().shape == (output_channels(first),)
        )
    if index != 0:
        return False
    if node.op in _POOLS:
        return first.op == "Conv"
    if node.op == "Pad":
        return first.op == "Conv" and _pads_space_with_zero(node, value)
    return node.op in _ELEMENTWISE


def _pads_space_with_zero(node: Node, value: Value) -> bool:
    if node.attribute("mode", "constant") != "constant" or node.attribute("value", 0.0) != 0.0:
        return False
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return False
    filler = node.inputs[2] if len(node.inputs) > 2 else None
    if filler is not None and not (filler.is_constant and not filler.array().any()):
        return False
    widths = node.inputs[1] if len(node.inputs) > 1 else None
    if widths is None:
        pads = np.asarray(node.attribute("pads", []))
    elif widths.is_constant:
        pads = widths.array()
    else:
        return False
    rank = len(pads) // 2
    # Channels that are added would have to be left out of the scaling.
    return rank > 1 and not pads[1] and not pads[rank + 1] and value.dtype is DType.FLOAT
