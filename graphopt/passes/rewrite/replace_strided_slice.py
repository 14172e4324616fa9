"""Compute the parameter-free shortcut of residual networks as one convolution.

Taking every second pixel and padding channels with zeros ("option A", He et al. 2015,
arXiv:1512.03385, sec. 4.2) leaves the blocked layout of onnxruntime, and Pad has no integer kernel.
A strided 1x1 convolution with an identity as weight does the same and stays in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.analysis import integers, scalar
from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_MANY_CHANNELS = 256
"""From here on the products of the convolution cost more than the copies that it saves."""


@dataclass(frozen=True)
class ReplaceStridedSlice:
    """Turn strided Slices over feature maps and a Pad of their channels into one Conv.

    The weight is [C + a + b, C, 1, 1] for C channels with a zeros before and b after them; the
    strides are those of the Slices.
    """

    name: ClassVar[str] = "replace-strided-slice"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Replace every such shortcut whose channels are known."""
        pads = [n for n in graph.nodes("Pad") if n.domain == ""]
        if not pads or not graph.nodes("Slice"):
            return PassResult(False)
        ir.infer_shapes(graph)
        replaced = sum(_replace(graph, pad) for pad in pads)
        if not replaced:
            return PassResult(False)
        graph.sort()
        note = counted(replaced, "shortcut", "replaced")
        return PassResult(True, (note,), {"shortcuts": replaced})


def _replace(graph: Graph, pad: Node) -> bool:
    added = _added_channels(pad)
    if added is None:
        return False
    source = pad.inputs[0]
    assert source is not None
    slices: list[Node] = []
    strides = [1] * (len(source.shape or ()) - 2)
    while (steps := _steps(source)) is not None and source.producer is not None:
        slices.append(source.producer)
        strides = [a * b for a, b in zip(strides, steps, strict=True)]
        before = source.producer.inputs[0]
        assert before is not None
        source = before
    channels = (source.shape or (None, None))[1]
    if not slices or not isinstance(channels, int) or channels + sum(added) > _MANY_CHANNELS:
        return False
    _write(graph, pad, source, channels, added, strides)
    for node in slices:
        if not node.outputs[0].uses and not node.outputs[0].is_output:
            graph.remove(node)
    return True


def _write(
    graph: Graph,
    pad: Node,
    source: Value,
    channels: int,
    added: tuple[int, int],
    strides: list[int],
) -> None:
    name = pad.label
    before, after = added
    identity = np.pad(np.eye(channels, dtype=np.float32), ((before, after), (0, 0)))
    shape = [channels + before + after, channels, *[1] * len(strides)]
    weight = graph.add_constant(f"{name}_identity", identity.reshape(shape))
    attributes = {"kernel_shape": [1] * len(strides), "strides": strides}
    made = graph.add_node("Conv", [source, weight], 1, attributes, name=f"{name}_shortcut")
    made.outputs[0].dtype = source.dtype
    graph.replace_uses(pad.outputs[0], made.outputs[0])
    graph.remove(pad)


def _added_channels(pad: Node) -> tuple[int, int] | None:
    """Return the zeros before and after the channels, where nothing else is padded."""
    source = pad.inputs[0]
    widths = _constant(pad, 1)
    if source is None or source.dtype is not DType.FLOAT or widths is None:
        return None
    if pad.attribute("mode", "constant") != "constant" or not _pads_zeros(pad):
        return None
    rank = len(source.shape or ())
    if rank < 3 or len(pad.inputs) > 3 or len(widths) != 2 * rank:
        return None
    before, after = widths[:rank], widths[rank:]
    others = [w for i, w in enumerate(widths) if i % rank != 1]
    if any(others) or min(before[1], after[1]) < 0:
        return None
    return before[1], after[1]


def _pads_zeros(pad: Node) -> bool:
    given = pad.inputs[2] if len(pad.inputs) > 2 else None
    return given is None or scalar(given) == 0.0


def _steps(value: Value) -> list[int] | None:
    """Return the steps by spatial axis of the Slice that alone makes ``value``, from the start."""
    node = value.producer
    if node is None or node.op != "Slice" or node.domain or len(value.uses) != 1:
        return None
    source = node.inputs[0]
    if value.is_output or source is None or source.shape is None:
        return None
    rank = len(source.shape)
    starts, ends = _constant(node, 1), _constant(node, 2)
    if starts is None or ends is None or any(starts):
        return None
    axes = _constant(node, 3, list(range(len(starts))))
    steps = _constant(node, 4, [1] * len(starts))
    if axes is None or steps is None:
        return None
    axes = [a % rank for a in axes]
    found = [1] * rank
    for axis, end, step in zip(axes, ends, steps, strict=True):
        size = source.shape[axis]
        if step < 1 or end < (size if isinstance(size, int) else 2**31 - 1):
            return None
        found[axis] = step
    return found[2:] if found[:2] == [1, 1] else None


def _constant(node: Node, index: int, default: list[int] | None = None) -> list[int] | None:
    """Return the integers of a constant input; ``default`` where it is omitted."""
    value = node.inputs[index] if len(node.inputs) > index else None
    return default if value is None else integers(value)
