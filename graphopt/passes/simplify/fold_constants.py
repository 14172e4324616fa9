"""Compute at compile time what does not depend on the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.base import PassResult, counted
from graphopt.types import DType, Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
     "Bernoulli", "Dropout"}
)  # fmt: skip
_KEPT = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""Folding these would turn stored integers back into floats, or fix what QAT has learned."""


@dataclass(frozen=True)
class FoldConstants:
    """Replace operators whose inputs are constant by their result.

    Args:
        max_bytes: results larger than this stay computed, so that a small file stays small.
    """

    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Effect] = Effect.EXACT
    max_bytes: int = 1 << 20

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Turn Constant nodes into initializers, then fold what depends on them."""
        ir.infer_shapes(graph)
        moved = _store_constant_nodes(graph)
        shapes = _fold_shapes(graph)
        foldable = self._foldable(graph, context)
        folded = _evaluate(graph, foldable, context) if foldable else 0
        notes = []
        if moved:
            notes.append(counted(moved, "Constant node", "stored as data"))
        if folded + shapes:
            notes.append(counted(folded + shapes, "node", "folded"))
        return PassResult(bool(notes), tuple(notes), {"moved": moved, "folded": folded + shapes})

    def _foldable(self, graph: Graph, context: Context) -> list[Node]:
        """Return, in order, the nodes that depend on constants alone and have small results."""
        known: set[Value] = set()
        found = []
        for node in graph.nodes():
            inputs = [v for v in node.inputs if v is not None]
            if not inputs or not all(v in known or v.is_constant for v in inputs):
                continue
            if node.domain or node.op in _RANDOM | _KEPT or node.subgraphs:
                continue
            if not all(self._is_small(v) for v in node.outputs if v.name):
                context.explain(node, f"its result would be larger than {self.max_bytes} bytes")
                continue
            known.update(node.outputs)
            found.append(node)
        return found

    def _is_small(self, value: Value) -> bool:
        if value.shape is None or value.dtype is None:
            return False
        if not all(isinstance(d, int) for d in value.shape):
            return False
        sizes = [d for d in value.shape if isinstance(d, int)]
        return value.dtype.nbytes(int(np.prod(sizes, dtype=object))) <= self.max_bytes


def _store_constant_nodes(graph: Graph) -> int:
    moved = 0
    for node in graph.nodes("Constant"):
        tensor = node.constant_tensor()
        output = node.outputs[0]
        if node.domain or tensor is None or output.is_output or tensor.dtype is DType.STRING:
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
        if not all(isinstance(d, int) for d in source.shape):
            continue
        start, end = node.attribute("start", 0), node.attribute("end", len(source.shape))
        dims = np.array(source.shape[start:end], dtype=np.int64)
        graph.replace_uses(output, graph.add_constant(f"{output.name}_value", dims))
        graph.remove(node)
        folded += 1
    return folded


def _evaluate(graph: Graph, nodes: list[Node], context: Context) -> int:
    """Run the foldable part once and store what the rest of the graph reads of it."""
    members = set(nodes)
    frontier = [
        v
        for node in nodes
        for v in node.outputs
        if v.name and not v.is_output and any(c not in members for c in v.consumers)
    ]
    if not frontier:
        return 0
    part = ir.extract(graph, [], [v.name for v in frontier])
    try:
        results = context.run(part, {}, [v.name for v in frontier])
    except ModelError as error:
        for node in nodes:
            context.explain(node, f"could not be computed: {error.message}")
        return 0
    for value, result in zip(frontier, results, strict=True):
        stored = graph.add_constant(
            f"{value.name}_value", ir.Tensor.from_array(result, value.dtype)
        )
        graph.replace_uses(value, stored)
    for node in reversed(nodes):
        if not any(v.uses or v.is_output for v in node.outputs):
            graph.remove(node)
    return len(nodes)
