"""Inputs to compare two graphs on: the user's data when there is some, seeded values otherwise."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from graphopt.ir import Graph, Value

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_SIZES = (2, 3)
"""Dynamic dimensions are probed at two sizes, so that nothing is fixed at one by accident."""
_DEFAULT_VOCABULARY = 8
_INTEGERS = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64,
                       DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64})  # fmt: skip


@dataclass(frozen=True)
class Probes:
    """Feeds for comparing graphs, and where they come from."""

    feeds: tuple[Feed, ...]
    origin: str


def probe_feeds(graph: Graph, samples: Iterable[Feed], seed: int) -> Probes:
    """Return the feeds to check exact passes with.

    Real samples come first; with a symbolic first dimension two of them are also stacked. Without
    samples the values are drawn with a fixed seed, at two sizes of each dynamic dimension.
    """
    real = list(samples)[:2]
    if real:
        return Probes((*real, *_stacked(graph, real)), "the data")
    return Probes(
        tuple(_synthetic(graph, size, seed) for size in _SIZES), f"seeded values (seed {seed})"
    )


def _stacked(graph: Graph, samples: list[Feed]) -> list[Feed]:
    """Join two samples along the batch axis where every input has a symbolic one."""
    batched = all(v.shape and not isinstance(v.shape[0], int) for v in graph.feeds)
    if not batched or len(samples) < 2:
        return []
    first, second = samples
    if any(first[k].shape[1:] != second[k].shape[1:] for k in first):
        return []
    return [{k: np.concatenate([first[k], second[k]]) for k in first}]


def _synthetic(graph: Graph, size: int, seed: int) -> Feed:
    symbols: dict[str, int] = {}
    return {v.name: _values(v, size, seed, symbols) for v in graph.feeds}


def _values(value: Value, size: int, seed: int, symbols: dict[str, int]) -> Array:
    """Draw one input: ids within their table, masks of 0 and 1, standard normal floats."""
    # Spatial sizes differ from the batch size: 2 or 3 pixels are too few for any convolution.
    shape = [_size(d, axis, size, symbols) for axis, d in enumerate(value.shape or ())]
    random = np.random.default_rng([seed, size, zlib.crc32(value.name.encode())])
    dtype = value.dtype or DType.FLOAT
    if dtype is DType.BOOL:
        return random.integers(0, 2, shape).astype(bool)
    if dtype in _INTEGERS:
        kind = np.dtype(dtype.name.lower())
        return random.integers(0, _vocabulary(value), shape).astype(kind)
    if dtype is DType.STRING:
        return np.full(shape, "a", dtype=object)
    kinds = {DType.DOUBLE: np.float64, DType.FLOAT16: np.float16}
    return random.standard_normal(shape).astype(kinds.get(dtype, np.float32))


def _size(dim: int | str | None, axis: int, size: int, symbols: dict[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    chosen = size if axis < 2 else 16 * size
    return symbols.setdefault(dim, chosen) if dim else chosen


def _vocabulary(value: Value) -> int:
    """Return how many different ids an integer input may hold: rows of the table it indexes."""
    for node, index in value.uses:
        table = node.inputs[0]
        if node.op == "Gather" and index == 1 and table is not None and table.shape:
            rows = table.shape[node.attribute("axis", 0)]
            if isinstance(rows, int):
                return max(rows, 1)
    return _DEFAULT_VOCABULARY if value.dtype is not DType.BOOL else 2
