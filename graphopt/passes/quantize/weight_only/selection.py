"""Which matrices are stored in few bits, and what keeps the others as they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from graphopt.passes.quantize.weight_only.blocks import Grid
from graphopt.passes.quantize.weight_only.matrices import Matrix, find_matrix, inner_nodes
from graphopt.passes.quantize.weight_only.operators import stored_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

WORTH = 0.75
"""A matrix is stored in few bits when that takes at most this share of its bytes."""


@dataclass(frozen=True)
class Wishes:
    """What the options say about selection; see ``QuantizeWeights``."""

    bits: int
    block_size: int
    symmetric: bool
    fractional: bool
    embedding_bits: int
    exclude: tuple[str, ...]
    only: tuple[str, ...]
    min_elements: int

    def grid(self, matrix: Matrix) -> Grid:
        """Return the codes of a matrix; one block for all features where the block size is 0."""
        size = self.block_size or max(16, 1 << (matrix.inputs - 1).bit_length())
        if matrix.node.op == "Gather":
            return Grid(self.embedding_bits, size, self.symmetric)
        return Grid(self.bits, size, self.symmetric, self.fractional)


@dataclass
class Selection:
    """What is quantized.

    Args:
        factors: matrices that are multiplied by, in the order of the graph.
        tables: matrices that rows are looked up in.
        tied: by table, the factor that holds the same weights.
    """

    factors: list[Matrix] = field(default_factory=list)
    tables: list[Matrix] = field(default_factory=list)
    tied: dict[int, Matrix] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.factors) + len(self.tables)


def select(graph: Graph, context: Context, wishes: Wishes) -> Selection:
    """Return the matrices to quantize, and explain why others stay."""
    selection = Selection()
    for node in inner_nodes(graph):
        context.explain(node, "it is inside a control-flow body, which is left alone")
    for node in graph.nodes():
        found = find_matrix(node)
        if found is None:
            continue
        reason = found if isinstance(found, str) else _obstacle(found, wishes)
        if reason is not None:
            context.explain(node, reason)
        elif isinstance(found, Matrix):
            chosen = selection.tables if node.op == "Gather" else selection.factors
            chosen.append(found)
    for index, table in enumerate(selection.tables):
        twin = next((f for f in selection.factors if same_weights(table, f)), None)
        if twin is not None:
            selection.tied[index] = twin
    return selection


def _obstacle(matrix: Matrix, wishes: Wishes) -> str | None:
    if matrix.node.op == "Gather" and not wishes.embedding_bits:
        return "embeddings stay in float (embedding-bits = 0)"
    name = matrix.node.label
    if any(fnmatchcase(name, pattern) for pattern in wishes.exclude):
        return "excluded by the recipe"
    if wishes.only and not any(fnmatchcase(name, pattern) for pattern in wishes.only):
        return "not among the operators that the recipe names"
    count = matrix.outputs * matrix.inputs
    if count < wishes.min_elements:
        return f"its {count} weights are too few to be worth it (min-elements)"
    tensor = matrix.weight.tensor
    assert tensor is not None
    width = tensor.dtype.bits // 8
    needed = stored_bytes(matrix.outputs, matrix.inputs, wishes.grid(matrix), width)
    if needed > WORTH * tensor.nbytes:
        return (
            f"{list(matrix.shape)} weights would take {needed} bytes instead of {tensor.nbytes}: "
            "its rows hold too few for a block"
        )
    return None


def same_weights(a: Matrix, b: Matrix) -> bool:
    """Whether two matrices hold the same values, seen the same way; reads no more than it must."""
    if a.shape != b.shape or a.weight.dtype != b.weight.dtype:
        return False
    if a.key == b.key:
        return True
    step = max(1, (1 << 22) // max(a.inputs, 1))
    return all(
        np.array_equal(a.rows(start, start + step), b.rows(start, start + step))
        for start in range(0, a.outputs, step)
    )


def by_source(factors: Sequence[Matrix], budget: int) -> list[list[Matrix]]:
    """Divide factors into runs whose inputs' Gram matrices fit into ``budget`` bytes together.

    A source whose Gram matrix alone is larger gets a run of its own.
    """
    runs: list[list[Matrix]] = []
    seen: set[str] = set()
    room = 0
    for matrix in factors:
        name = matrix.source.name
        size = 0 if name in seen else 8 * matrix.inputs**2
        if not runs or size > room:
            runs.append([])
            seen, room = set(), budget
            size = 8 * matrix.inputs**2
        runs[-1].append(matrix)
        seen.add(name)
        room -= size
    return runs
