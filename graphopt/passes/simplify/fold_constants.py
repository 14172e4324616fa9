"""Compute at compile time what does not depend on the inputs, as far as it can be afforded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
     "Bernoulli", "Dropout"}
)  # fmt: skip
_KEPT = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""Folding these would turn stored integers back into floats, or fix what QAT has learned."""

_BATCH_BYTES = 64 << 20
"""Constants and results that are in memory together; those of one operator may be more."""
_STRING_BYTES = 64
"""What a string is taken to need, as it is not known before it is made."""
_SHARE_OF_STORAGE = 1 / 16
"""What all results may add on a target that has only so much storage."""


@dataclass(frozen=True)
class FoldConstants:
    """Replace operators whose inputs are constant by their result.

    A result takes the place of the constants that only it was computed from. What it is larger than
    those is what the model grows by: a transposed matrix costs nothing, an expanded scalar all of
    itself. Operators whose result would cost too much stay as they are, with all that follows.

    Args:
        max_bytes: what one result may add to the model.
        max_growth: what all results together may add; less where the target has little storage.
    """

    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Effect] = Effect.EXACT
    max_bytes: int = 1 << 20
    max_growth: int = 64 << 20

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Turn Constant nodes into initializers, then fold what depends on them."""
        ir.infer_shapes(graph)
        moved = _store_constant_nodes(graph)
        shapes = _fold_shapes(graph)
        foldable = self._foldable(graph, context)
        folded = sum(_evaluate(graph, batch, context) for batch in _batches(foldable))
        notes = []
        if moved:
            notes.append(counted(moved, "Constant node", "stored as data"))
        if folded + shapes:
            notes.append(counted(folded + shapes, "node", "folded"))
        return PassResult(bool(notes), tuple(notes), {"moved": moved, "folded": folded + shapes})

    def _foldable(self, graph: Graph, context: Context) -> list[Node]:
        """Return, in order, the nodes that depend on constants alone and can be afforded."""
        known: set[Value] = set()
        found = []
        growth, limit = 0, self._limit(context)
        for node in graph.nodes():
            inputs = [v for v in node.inputs if v is not None]
            if not inputs or not all(v in known or v.is_constant for v in inputs):
                continue
            if node.domain or node.op in _RANDOM | _KEPT or node.subgraphs:
                continue
            added = _added(node)
            if added is None or added > self.max_bytes:
                context.explain(node, _too_large(added, self.max_bytes))
                continue
            if growth + added > limit:
                context.explain(node, f"all results together would add more than {limit} bytes")
                continue
            growth += added
            known.update(node.outputs)
            found.append(node)
        return found

    def _limit(self, context: Context) -> int:
        storage = context.target.memory.storage_limit_bytes
        if storage is None:
            return self.max_growth
        return min(self.max_growth, int(storage * _SHARE_OF_STORAGE))


def _too_large(added: int | None, limit: int) -> str:
    if added is None:
        return "how large its result is is not known"
    return f"its result would add more than {limit} bytes"


def _added(node: Node) -> int | None:
    """Return the bytes that the results take beyond the constants that nobody else reads."""
    sizes = [_nbytes(v) for v in node.outputs if v.name]
    if any(s is None for s in sizes):
        return None
    own = {v for v in node.inputs if v is not None and _is_read_once(v)}
    return sum(s or 0 for s in sizes) - sum(_nbytes(v) or 0 for v in own)


def _is_read_once(value: Value) -> bool:
    return len(value.consumers) == 1 and not value.is_output and not value.is_input


def _nbytes(value: Value) -> int | None:
    """Return the bytes of a tensor of known size."""
    if value.shape is None or value.dtype is None:
        return None
    sizes = [d for d in value.shape if isinstance(d, int)]
    if len(sizes) < len(value.shape):
        return None
    if value.dtype is DType.STRING:
        return _STRING_BYTES * math.prod(sizes)
    return value.dtype.nbytes(math.prod(sizes))


def _store_constant_nodes(graph: Graph) -> int:
    moved = 0
    for node in graph.nodes("Constant"):
        tensor = node.constant_tensor()
        output = node.outputs[0]
        if node.domain or tensor is None or output.is_output or tensor.dtype is DType.STRING:
            continue
        if not output.uses:
            continue
        graph.replace_uses(output, graph.add_constant(f"{output.name}_value", tensor))
        graph.remove(node)
        moved += 1
    return moved


def _fold_shapes(graph: Graph) -> int:
    """Replace Shape of tensors whose shape is fully known."""
    folded = 0
    for node in graph.nodes("Shape"):
        source, output = node.inputs[0], node.outputs[0]
        if source is None or source.shape is None or output.is_output or node.domain:
            continue
        if not output.uses or not all(isinstance(d, int) for d in source.shape):
            continue
        start, end = node.attribute("start", 0), node.attribute("end", len(source.shape))
        dims = np.array(source.shape[start:end], dtype=np.int64)
        graph.replace_uses(output, graph.add_constant(f"{output.name}_value", dims))
        graph.remove(node)
        folded += 1
    return folded


def _batches(nodes: Sequence[Node]) -> Iterator[list[Node]]:
    """Yield consecutive nodes that are evaluated together: what they read and make fits."""
    batch: list[Node] = []
    held = 0
    for node in nodes:
        values = [*node.inputs, *node.outputs]
        size = sum(_nbytes(v) or 0 for v in values if v is not None and v.name)
        if batch and held + size > _BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append(node)
        held += size
    if batch:
        yield batch


def _evaluate(graph: Graph, nodes: list[Node], context: Context) -> int:
    """Run consecutive nodes once and store what the rest of the graph reads of them."""
    members = set(nodes)
    frontier = [
        v
        for node in nodes
        for v in node.outputs
        if v.name and not v.is_output and any(c not in members for c in v.consumers)
    ]
    if not frontier:
        return 0
    results = _results(graph, nodes, frontier, context)
    if results is None:
        return 0
    for value in frontier:
        stored = graph.add_constant(
            f"{value.name}_value", ir.Tensor.from_array(results.pop(0), value.dtype)
        )
        graph.replace_uses(value, stored)
    _remove_unread(graph, nodes)
    return len(nodes)


def _results(
    graph: Graph, nodes: list[Node], frontier: list[Value], context: Context
) -> list[np.ndarray] | None:
    """Return the values of ``frontier``; None where the runtime does not compute them."""
    names = [v.name for v in frontier]
    try:
        return context.run(ir.extract(graph, [], names), {}, names)
    except ModelError as error:
        for node in nodes:
            context.explain(node, f"could not be computed: {error.message}")
        return None


def _remove_unread(graph: Graph, nodes: list[Node]) -> None:
    """Remove nodes that nobody reads, and constants that only they have read."""
    for node in reversed(nodes):
        if not any(v.uses or v.is_output for v in node.outputs):
            inputs = node.inputs
            graph.remove(node)
            for value in inputs:
                graph.drop_constant(value)
