"""The tensor that the blocks of a transformer add to, with everything that writes and reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_RMS_NORMS = frozenset({"RMSNormalization", "SimplifiedLayerNormalization"})
_SHAPE_ONLY = frozenset({"Shape", "Size"})


class _NotRotatableError(Exception):
    """Why a stream cannot be rotated."""


@dataclass
class ResidualStream:
    """A residual stream whose readers all stand behind an RMS normalization.

    Args:
        width: channels.
        writers: (node, input, transposed) of the constants whose columns (rows, where transposed)
            are the channels: embeddings, weights, biases.
        readers: (product, gain) behind a normalization; the gain is folded into the product.
        gains: (node, input) of the constants that become one.
    """

    width: int
    writers: list[tuple[Node, int, bool]] = field(default_factory=list)
    readers: list[tuple[Node, Array]] = field(default_factory=list)
    gains: list[tuple[Node, int]] = field(default_factory=list)


def residual_streams(graph: Graph, context: Context) -> list[ResidualStream]:
    """Return the residual streams that can be rotated; explain the others at their embedding."""
    found = []
    seen: set[Value] = set()
    for node in graph.nodes("Gather"):
        table = node.inputs[0]
        if node.domain or table is None or not table.is_constant or table.dtype is not DType.FLOAT:
            continue
        if len(table.shape or ()) != 2 or node.attribute("axis", 0) != 0:
            continue
        if node.outputs[0] in seen:
            continue
        walk = _Walk(graph, int(table.array().shape[1]))
        try:
            stream = walk.from_value(node.outputs[0])
        except _NotRotatableError as reason:
            context.explain(node, f"what it writes is not rotated: {reason}")
            continue
        seen |= walk.seen
        if stream.readers:
            found.append(stream)
    return found


class _Walk:
    """Follows a stream in both directions until everything that touches it is known."""

    def __init__(self, graph: Graph, width: int) -> None:
        self.graph = graph
        self.stream = ResidualStream(width)
        self.todo: list[Value] = []
        self.seen: set[Value] = set()

    def from_value(self, value: Value) -> ResidualStream:
        """Return the stream that a value belongs to."""
        self.todo = [value]
        while self.todo:
            value = self.todo.pop()
            if value in self.seen:
                continue
            self.seen.add(value)
            if value.is_output or value.is_input:
                raise _NotRotatableError(f"`{value.name}` is an input or output of the model")
            self._written(value)
            for node, index in value.uses:
                self._read(node, index, value)
        return self.stream

    def _written(self, value: Value) -> None:
        node = value.producer
        if node is None or node.graph is not self.graph or node.domain:
            raise _NotRotatableError(f"`{value.name}` is written in a way that cannot be rotated")
        if node.op == "Gather":
            self._own_matrix(node, 0, 1)
            self.stream.writers.append((node, 0, False))
        elif node.op in {"MatMul", "Gemm"}:
            self._product(node)
        elif node.op == "Add":
            for index, part in enumerate(node.inputs):
                if part is not None and part.is_constant:
                    self._row(node, index)
                    self.stream.writers.append((node, index, False))
                elif part is not None:
                    self.todo.append(part)
        else:
            raise _NotRotatableError(f"{node.op} writes `{value.name}`")

    def _product(self, node: Node) -> None:
        by_rows = node.op == "Gemm" and bool(node.attribute("transB", 0))
        self._own_matrix(node, 1, 0 if by_rows else 1)
        self.stream.writers.append((node, 1, by_rows))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            self._row(node, 2)
            self.stream.writers.append((node, 2, False))

    def _own_matrix(self, node: Node, index: int, axis: int) -> None:
        """Demand a float32 matrix that nobody else reads, with the channels along ``axis``."""
        value = node.inputs[index]
        usable = value is not None and value.is_constant and value.dtype is DType.FLOAT
        if not usable or value is None or len(value.shape or ()) != 2:
            raise _NotRotatableError(f"{node.op} `{node.name}` has no constant matrix")
        if value.array().shape[axis] != self.stream.width:
            raise _NotRotatableError(f"{node.op} `{node.name}` has another width")
        if len(value.uses) != 1:
            raise _NotRotatableError(f"`{value.name}` is shared")

    def _row(self, node: Node, index: int) -> Array:
        """Demand a float32 constant with one number per channel."""
        value = node.inputs[index]
        usable = value is not None and value.is_constant and value.dtype is DType.FLOAT
        if not usable or value is None or value.array().size != self.stream.width:
            raise _NotRotatableError(f"{node.op} `{node.name}` has no constant row")
        if value.array().shape[-1] != self.stream.width:
            raise _NotRotatableError(f"{node.op} `{node.name}` has no constant row")
        return value.array().astype(np.float64).reshape(-1)

    def _read(self, node: Node, index: int, value: Value) -> None:
        if node.graph is not self.graph:
            raise _NotRotatableError("an inner graph reads it")
        if node.op in _SHAPE_ONLY:
            return
        if node.op == "Add":
            self.todo.append(node.outputs[0])
        elif node.op == "Pow" and index == 0:
            self._statistic(node)
        elif node.op == "Mul" and self._is_per_row(node.inputs[1 - index], value):
            self._normalized(node.outputs[0], np.ones(self.stream.width))
        elif node.op in _RMS_NORMS and index == 0 and self._normalizes_last(node):
            gain = self._row(node, 1)
            self.stream.gains.append((node, 1))
            self._normalized(node.outputs[0], gain)
        else:
            raise _NotRotatableError(f"{node.op} `{node.name}` reads it as it is")

    def _normalizes_last(self, node: Node) -> bool:
        rank = len(node.outputs[0].shape or ())
        unused = not any(o.name and (o.uses or o.is_output) for o in node.outputs[1:])
        return unused and node.attribute("axis", -1) in {-1, rank - 1}

    def _is_per_row(self, other: Value | None, value: Value) -> bool:
        """Whether a factor is the same for all channels: 1 along the last axis."""
        if other is None or other is value or not other.shape:
            return False
        return other.shape[-1] == 1 and not other.is_constant

    def _statistic(self, node: Node) -> None:
        """Demand x^2 and then a mean over channels, which a rotation leaves as it is."""
        power = node.inputs[1]
        squares = power is not None and power.is_constant and np.all(power.array() == 2)
        rank = len(node.outputs[0].shape or ())
        for reader in node.outputs[0].consumers:
            axes = reader.inputs[1] if len(reader.inputs) > 1 else None
            named = reader.attribute("axes") if axes is None else None
            if axes is not None:
                named = axes.array().tolist() if axes.is_constant else None
            if not squares or reader.op != "ReduceMean" or named not in ([-1], [rank - 1]):
                raise _NotRotatableError(f"{node.op} `{node.name}` reads it as it is")
        if not node.outputs[0].uses or node.outputs[0].is_output:
            raise _NotRotatableError(f"{node.op} `{node.name}` reads it as it is")

    def _normalized(self, value: Value, gain: Array) -> None:
        """Follow a normalized stream to the products that read it."""
        if value.is_output:
            raise _NotRotatableError(f"`{value.name}` is an output of the model")
        for node, index in value.uses:
            if node.op in _SHAPE_ONLY:
                continue
            if node.op == "Mul" and node.graph is self.graph:
                more = self._row(node, 1 - index)
                self.stream.gains.append((node, 1 - index))
                self._normalized(node.outputs[0], gain * more)
            elif node.op in {"MatMul", "Gemm"} and index == 0 and not node.attribute("transA", 0):
                if node.graph is not self.graph:
                    raise _NotRotatableError("an inner graph reads it")
                by_rows = node.op == "Gemm" and bool(node.attribute("transB", 0))
                self._own_matrix(node, 1, 1 if by_rows else 0)
                self.stream.readers.append((node, gain))
            else:
                raise _NotRotatableError(f"{node.op} `{node.name}` reads it behind the norm")
