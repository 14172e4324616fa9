"""Seeded inputs for a model at two sizes of its open dimensions."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    Feed = dict[str, np.ndarray[Any, Any]]

SIZES = (0, 1)
_BATCH = (2, 3)
_LENGTH = (9, 16)
_IMAGE = (24, 40)
_PAST = (4, 7)
_IDS = 200
"""Rows that every table of the corpus has."""


def feeds(inputs: Iterable[tuple[str, tuple[int | str | None, ...], str]]) -> list[Feed]:
    """Return one feed a size, for inputs by name, shape and numpy's element type.

    Models without open dimensions get two different inputs of their one size.
    """
    known = list(inputs)
    return [{name: _draw(name, shape, kind, size) for name, shape, kind in known} for size in SIZES]


def _draw(name: str, shape: tuple[int | str | None, ...], kind: str, size: int) -> Any:
    sizes = [_size(dim, axis, len(shape), size) for axis, dim in enumerate(shape)]
    random = np.random.default_rng([size, zlib.crc32(name.encode())])
    if "mask" in name:
        mask = np.ones(sizes, kind)
        # The second half of the batch ends one token earlier.
        mask[sizes[0] // 2 :, ..., -1:] = 0
        return mask
    if kind in {"int64", "int32"}:
        return random.integers(3, _IDS, sizes).astype(kind)
    return random.standard_normal(sizes).astype(kind)


def _size(dim: int | str | None, axis: int, rank: int, size: int) -> int:
    if isinstance(dim, int):
        return dim
    if dim == "total":
        return _PAST[size] + _LENGTH[size]
    if dim == "past":
        return _PAST[size]
    if axis == 0:
        return _BATCH[size]
    return _IMAGE[size] + axis if rank == 4 else _LENGTH[size]
