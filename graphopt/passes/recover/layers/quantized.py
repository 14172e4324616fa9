"""The integer layers of a graph with Q and DQ, beside the float layers that they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import Tensor
from graphopt.passes.recover.layers.inputs import HEAVY, observed_layers
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.ir import Graph, Node, Value

    Array = np.ndarray[Any, Any]

_LIMIT = float(2**31 - 1)


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer with a bias that can be shifted.

    Args:
        node: in the graph with Q and DQ.
        reference: the same layer in the float graph.
        holder: the node that holds the bias: a DequantizeLinear, or the layer itself.
        index: the input of ``holder`` that is the constant.
        axis: of the channels in the output.
    """

    node: Node
    reference: Node
    holder: Node
    index: int
    axis: int

    @property
    def output(self) -> str:
        """Name of the output, the same in both graphs."""
        return self.node.outputs[0].name

    def weight(self, shape: tuple[int, ...]) -> Array | None:
        """Return the weight that the integers stand for, cut to ``shape``; None if not stored."""
        value = self.node.inputs[1]
        source = value.producer if value is not None else None
        if source is None or source.op != "DequantizeLinear":
            return None
        stored, scale = source.inputs[:2]
        if stored is None or scale is None or not stored.is_constant or not scale.is_constant:
            return None
        factor = scale.array().astype(np.float64)
        if factor.ndim:
            wide = [1] * stored.array().ndim
            wide[int(source.attribute("axis", 1))] = -1
            factor = factor.reshape(wide)
        real = stored.array().astype(np.float64) * factor
        return real[tuple(slice(0, size) for size in shape)]

    def float_bias(self, channels: int) -> Array:
        """Return the bias of the float layer; float64 [channels]."""
        bias = self.reference.inputs[2] if len(self.reference.inputs) > 2 else None
        if bias is None or not bias.is_constant:
            return np.zeros(channels)
        return np.broadcast_to(bias.array().astype(np.float64).reshape(-1), (channels,))

    def set_bias(self, graph: Graph, wanted: Array) -> bool:
        """Give the layer this bias, float64 [channels]; return whether that changed anything."""
        old = self.holder.inputs[self.index]
        assert old is not None
        now = old.array().reshape(-1).astype(np.float64) * self._step()
        return self.shift(graph, wanted - now[: len(wanted)])

    def _step(self) -> Array:
        if self.holder.op != "DequantizeLinear":
            return np.ones(1)
        scale = self.holder.inputs[1]
        assert scale is not None
        return scale.array().astype(np.float64).reshape(-1)

    def shift(self, graph: Graph, change: Array) -> bool:
        """Add ``change``, float64 [channels], to the bias; return whether that changed anything."""
        old = self.holder.inputs[self.index]
        assert old is not None
        before = old.array()
        if before.size < change.size or (before.size > change.size and before.ndim != 1):
            return False
        # Channels that were added as padding come last, and have no bias.
        wide = np.pad(change, (0, before.size - change.size)).reshape(before.shape)
        step = self._step()
        after: Array
        if before.dtype.kind == "i":
            shifted = before + np.rint(wide / (step if step.size > 1 else step[0]))
            after = np.clip(shifted, -_LIMIT, _LIMIT).astype(np.int32)
        else:
            after = (before + wide).astype(np.float32)
        if np.array_equal(before, after):
            return False
        name = f"{old.name}_corrected" if not old.name.endswith("_corrected") else old.name
        self.holder.set_input(self.index, graph.add_constant(name, Tensor.from_array(after)))
        graph.drop_constant(old)
        return True


def quantized_layers(graph: Graph, reference: Graph) -> Iterator[QuantizedLayer]:
    """Yield the integer layers that have a bias, and a counterpart in the float graph."""
    known = {n.outputs[0].name: n for n in observed_layers(reference)}
    for node in graph.nodes(*HEAVY):
        counterpart = known.get(node.outputs[0].name)
        if counterpart is None or counterpart.op != node.op or not _reads_integers(node):
            continue
        found = _bias_holder(node)
        if found is not None:
            axis = 1 if node.op == "Conv" else -1
            yield QuantizedLayer(node, counterpart, *found, axis)


def _reads_integers(node: Node) -> bool:
    return all(
        v is not None and v.producer is not None and v.producer.op == "DequantizeLinear"
        for v in node.inputs[:2]
    )


def _bias_holder(node: Node) -> tuple[Node, int] | None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None:
        return None
    source = bias.producer
    if source is not None and source.op == "DequantizeLinear":
        stored, scale = source.inputs[:2]
        if stored is not None and scale is not None and _is_own(stored) and scale.is_constant:
            return source, 0
        return None
    return (node, 2) if _is_own(bias) and bias.dtype is DType.FLOAT else None


def _is_own(value: Value) -> bool:
    return value.is_constant and len(value.uses) == 1
