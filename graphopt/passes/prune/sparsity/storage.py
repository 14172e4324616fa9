"""How many bytes zeros save: sparse constants where they are smaller, and what deflate would do."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from graphopt import ir

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graphopt.ir import Graph, Tensor, Value

OLDEST_IR = 6
"""IR version that sparse constants came with."""
_FIRST_IR = 4
"""Before it every constant is listed as an input, which a sparse one cannot be."""
_HEADER_BYTES = 64
"""What the second tensor of a sparse constant takes beside its data, roughly."""
_MOST_BYTES = 64 << 20
"""Weights together larger than this are not compressed to see what that gives."""


def store_sparse(graph: Graph, weights: Sequence[Value]) -> int:
    """Store weights sparsely where that takes fewer bytes; return how many changed.

    A value of 4 bytes takes 12 with its index, so that float32 pays below a third of non-zeros.
    """
    if graph.ir_version < _FIRST_IR:
        return 0
    chosen = [w for w in weights if _is_smaller(w)]
    for weight in chosen:
        tensor = weight.stored
        assert tensor is not None
        # In files sparse constants come after the others; so that it reads back as it is here.
        graph.set_tensor(weight, None)
        graph.set_tensor(weight, ir.SparseTensor.of(tensor))
    if chosen:
        graph.ir_version = max(graph.ir_version, OLDEST_IR)
    return len(chosen)


def _is_smaller(weight: Value) -> bool:
    tensor = weight.stored
    if tensor is None or isinstance(tensor, ir.SparseTensor) or weight.is_input:
        return False
    return ir.sparse_bytes(tensor) + _HEADER_BYTES < tensor.nbytes


def deflated_bytes(tensors: Iterable[Tensor]) -> int | None:
    """Return what the values take after zlib at level 6, dense; None where there are too many."""
    held = list(tensors)
    if sum(t.dtype.nbytes(t.size) for t in held) > _MOST_BYTES:
        return None
    packer = zlib.compressobj(6)
    total = sum(len(packer.compress(piece)) for t in held for piece in t.chunks())
    return total + len(packer.flush())
