"""Which tensors must have the same channels, and which of them may be given more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphopt.ir import Graph, Node, Value

_CHANNELWISE = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu",
     "Celu", "Softplus", "Softsign", "Mish", "Gelu", "QuickGelu", "Identity", "Neg", "Abs", "Erf",
     "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "PRelu", "Dropout"}
)  # fmt: skip
"""Operators that treat every channel by itself and are finite where a channel is zero."""

_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Max", "Min", "Sum"})
CHANNEL_AXIS = 1


@dataclass
class ChannelGroup:
    """Tensors whose channels are the same ones.

    Args:
        channels: how many.
        values: the tensors, in order of execution.
        fixed: why their channels cannot be changed; None when they can.
        convolutions: (node, "output" | "input" | "depthwise"): how convolutions touch the group.
        concat: the Concat along channels that makes the group; its parts decide the order.
    """

    channels: int
    values: list[Value] = field(default_factory=list)
    fixed: str | None = None
    convolutions: list[tuple[Node, str]] = field(default_factory=list)
    concat: Node | None = None


class ChannelGroups:
    """The groups of a graph, by tensor."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._parent: dict[Value, Value] = {}
        self._fixed: dict[Value, str] = {}
        self._touches: list[tuple[Value, Node, str]] = []
        self._concats: list[Node] = []
        for value in (*graph.feeds, *graph.outputs):
            self._fix(value, "it is an input or output of the model")
        for node in graph.nodes():
            self._visit(node)
        self._groups = self._collect()
        self._settle_concats()

    def __iter__(self) -> Iterator[ChannelGroup]:
        """Yield every group once."""
        return iter(self._groups.values())

    def of(self, value: Value) -> ChannelGroup | None:
        """Return the group of a tensor; None when it has no channels."""
        return self._groups.get(self._find(value)) if value in self._parent else None

    # -- building --------------------------------------------------------------------------

    def _visit(self, node: Node) -> None:
        tensors = [v for v in (*node.inputs, *node.outputs) if v is not None and _is_activation(v)]
        if any(u.graph is not self._graph for v in tensors for u in v.consumers):
            self._fix_all(tensors, "an inner graph reads it")
        if node.op == "Conv" and node.domain == "":
            self._visit_convolution(node)
        elif node.op in _CHANNELWISE and node.domain in {"", "com.microsoft"}:
            self._join_all(tensors if len(node.outputs) == 1 else [], tensors)
        elif node.op in _BROADCASTING and node.domain == "":
            self._join_all(tensors, tensors)
        elif node.op == "Resize" and _keeps_channels(node):
            self._join_all([tensors[0], node.outputs[0]], tensors)
        elif node.op == "Concat" and node.domain == "":
            self._visit_concat(node, tensors)
        else:
            self._fix_all(tensors, f"{node.op} `{node.name}` depends on its channels")

    def _visit_convolution(self, node: Node) -> None:
        source, weight, made = node.inputs[0], node.inputs[1], node.outputs[0]
        assert source is not None
        constant = all(v is None or v.is_constant for v in node.inputs[1:])
        shape = weight.shape if weight is not None else None
        if not constant or shape is None or _channels(source) is None:
            self._fix_all([source, made], f"the weight of `{node.name}` is not constant")
            return
        groups = int(node.attribute("group", 1))
        if groups == 1:
            self._touches += [(source, node, "input"), (made, node, "output")]
            self._find(source)
            self._find(made)
        elif groups == shape[0] and shape[1] == 1:
            self._join_all([source, made], [source, made])
            self._touches.append((made, node, "depthwise"))
        else:
            self._fix_all([source, made], f"`{node.name}` convolves groups of channels")

    def _visit_concat(self, node: Node, tensors: list[Value]) -> None:
        rank = len(node.outputs[0].shape or ())
        axis = int(node.attribute("axis", 0))
        along_channels = rank > 0 and axis % rank == CHANNEL_AXIS
        if not along_channels:
            self._join_all(tensors, tensors)
        elif any(v is None or v.is_constant for v in node.inputs):
            self._fix_all(tensors, f"a part of `{node.name}` is constant")
        else:
            self._concats.append(node)
            for value in tensors:
                self._find(value)

    def _join_all(self, joined: Iterable[Value], touched: Iterable[Value]) -> None:
        found = list(joined)
        counts = {_channels(v) for v in found}
        if not found or len(counts) != 1 or None in counts:
            self._fix_all(touched, "its channels are unknown, or repeated for others")
            return
        for value in found[1:]:
            self._union(found[0], value)

    def _fix_all(self, values: Iterable[Value], reason: str) -> None:
        for value in values:
            self._fix(value, reason)

    def _fix(self, value: Value, reason: str) -> None:
        self._find(value)
        self._fixed.setdefault(value, reason)

    def _find(self, value: Value) -> Value:
        root = value
        while (above := self._parent.setdefault(root, root)) is not root:
            root = above
        while self._parent[value] is not root:
            self._parent[value], value = root, self._parent[value]
        return root

    def _union(self, first: Value, second: Value) -> None:
        one, other = self._find(first), self._find(second)
        if one is not other:
            self._parent[other] = one

    def _collect(self) -> dict[Value, ChannelGroup]:
        groups: dict[Value, ChannelGroup] = {}
        for value in list(self._parent):
            count = _channels(value)
            if count is None:
                continue
            group = groups.setdefault(self._find(value), ChannelGroup(count))
            group.values.append(value)
            group.fixed = group.fixed or self._fixed.get(value)
        for value, node, how in self._touches:
            if self._find(value) in groups:
                groups[self._find(value)].convolutions.append((node, how))
        return groups

    def _settle_concats(self) -> None:
        """A group that is fixed, or made by two Concats, fixes what it is put together from."""
        for node in self._concats:
            made = self.of(node.outputs[0])
            if made is None:
                continue
            if made.concat is not None or any(self.of(v) is made for v in node.inputs if v):
                made.fixed = made.fixed or "it is put together in two ways"
            made.concat = made.concat or node
        for _ in self._concats:
            for node in self._concats:
                made = self.of(node.outputs[0])
                for value in node.inputs:
                    part = self.of(value) if value is not None else None
                    if part is not None and (made is None or made.fixed):
                        part.fixed = part.fixed or "it is part of a tensor that is fixed"


def _channels(value: Value | None) -> int | None:
    shape = value.shape if value is not None else None
    if shape is None or len(shape) < 3:
        return None
    count = shape[CHANNEL_AXIS]
    return count if isinstance(count, int) else None


def _is_activation(value: Value) -> bool:
    return value.name != "" and not value.is_constant


def _keeps_channels(node: Node) -> bool:
    """Whether a Resize scales no channels, and says so with scales rather than sizes."""
    if any(v is not None and v.name for v in node.inputs[3:]) or node.attribute("axes"):
        return False
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    if scales is None or not scales.is_constant:
        return False
    array = scales.array()
    return bool(array.size > CHANNEL_AXIS and array.reshape(-1)[CHANNEL_AXIS] == 1.0)
