"""The blocked layout of onnxruntime's float convolutions: true channels behind padded tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.cost.shapes import dims

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value

DOMAIN = "com.microsoft.nchwc"
_SUFFIX = "_nchwc"
"""What onnxruntime appends to the name of a tensor to name the kernel that makes it."""

_BLOCK = 16
"""Largest number of channels in a block; what is padded is less than one block."""


def unblock(graph: Graph, original: Graph | None = None) -> dict[Value, int]:
    """Give blocked tensors and weights of an optimised graph their plain shapes, in place.

    Returns:
        the tensors that are in the blocked layout, and how many channels they really have.
    """
    channels: dict[Value, int] = {}
    for node in graph.nodes():
        count = _channels(node, channels, original)
        if count is None:
            continue
        for value in node.outputs:
            if value.name and value.shape is not None and len(value.shape) > 1:
                value.shape = (value.shape[0], count, *value.shape[2:])
                channels[value] = count
        if node.op == "Conv" and node.domain == DOMAIN:
            _unblock_weights(node, count, channels)
    return channels


def _channels(node: Node, channels: dict[Value, int], original: Graph | None) -> int | None:
    """Return the true channels of what a node makes; None where it makes plain tensors."""
    if node.op == "ReorderOutput":
        return None
    given = [channels[v] for v in node.inputs if v is not None and v in channels]
    if node.op == "ReorderInput":
        last = bool(node.attribute("channels_last", 0))
        return dims(node.inputs[0])[-1] if last else _second(node.inputs[0])
    if node.domain == DOMAIN and node.op == "Conv":
        return _named(node, original) or _reordered(node) or _counted(node)
    if node.op == "Concat" and given:
        return sum(given)
    return given[0] if given else None


def _second(value: Value | None) -> int | None:
    shape = dims(value)
    return shape[1] if len(shape) > 1 else None


def _named(node: Node, original: Graph | None) -> int | None:
    """Return the channels of the tensor of the model that a kernel is called after."""
    if original is None or not node.name.endswith(_SUFFIX):
        return None
    value = original.find(node.name.removesuffix(_SUFFIX))
    return _second(value) if value is not None and value.shape is not None else None


def _reordered(node: Node) -> int | None:
    """Return what a copy to the plain layout says of the channels, where there is one."""
    for reader in node.outputs[0].consumers:
        if reader.op == "ReorderOutput":
            return int(reader.attribute("channels", 0)) or None
    return None


def _counted(node: Node) -> int:
    """Return the filters without those at the end that are zero: these are padding."""
    weight = node.inputs[1]
    padded = dims(weight)[0]
    if weight is None or not weight.is_constant or padded % _BLOCK:
        return padded
    # Whatever comes before, the output channels of one block lie side by side.
    last = weight.array().reshape(padded // _BLOCK, -1, _BLOCK)[-1]
    used = np.flatnonzero(last.any(axis=0))
    return padded - _BLOCK + int(used[-1]) + 1 if used.size else padded


def _unblock_weights(node: Node, count: int, channels: dict[Value, int]) -> None:
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or weight is None or weight.shape is None:
        return
    groups = int(node.attribute("group", 1))
    inner = dims(weight)[1]
    if groups == 1:
        inner = channels.get(source, _second(source) or inner)
    elif inner == 1:
        node.set_attribute("group", count)
    weight.shape = (count, inner, *weight.shape[2:])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        bias.shape = (count,)
