"""Values for the inputs of a model, in the range of what each input is for."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]

_DEFAULT_VOCABULARY = 8
INTEGERS = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64,
                       DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64})  # fmt: skip
_CARRIES = frozenset({"Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Expand",
                      "Transpose", "Tile", "Slice", "Split"})  # fmt: skip
"""Operators behind which the values of their first input are the same ones."""
_READERS = 24
"""How many readers of an input are looked at."""
_IMAGE_RANK = 4
_CHANNELS = (1, 3, 4)
_EDGES = (0.0, -0.0, 1.0, -1.0, 1e-6, -1e-6, 30.0, -30.0)
_SHORT_EDGES = (0.0, -0.0, 1.0, -1.0, 1e-3, -1e-3, 4.0, -4.0)

_SMALL: dict[tuple[str, int], tuple[int, int]] = {
    ("Div", 1): (1, 5), ("Mod", 1): (1, 5), ("TopK", 1): (1, 2), ("Tile", 1): (1, 3),
    ("Expand", 1): (1, 2), ("ConstantOfShape", 0): (1, 4), ("OneHot", 1): (4, 9),
    ("Range", 0): (0, 2), ("Range", 1): (4, 8), ("Range", 2): (1, 3), ("Loop", 0): (2, 4),
    ("Slice", 1): (0, 1), ("Slice", 2): (1, 4), ("Slice", 4): (1, 2), ("BitShift", 1): (0, 4),
    ("Reshape", 1): (-1, 0), ("Resize", 3): (4, 9), ("Trilu", 1): (-1, 2), ("Pad", 1): (0, 3),
    ("CumSum", 1): (0, 1), ("Pow", 1): (0, 3), ("ReverseSequence", 1): (1, 2),
}  # fmt: skip
"""Ranges, the end excluded, of integers that say how something is done, by operator and input."""


@dataclass(frozen=True)
class Style:
    """How values are drawn where a model refuses what it is given first.

    Args:
        highest: no integer is larger; None: no limit.
        floats: ``unit`` for [0, 1), ``waves`` for something as smooth as a picture; empty for
            what the probe has by itself.
    """

    highest: int | None = None
    floats: str = ""


USUAL = Style()
OTHER_INTEGERS = (Style(highest=1), Style(highest=0))
OTHER_FLOATS = (Style(floats="unit"), Style(floats="waves"))


def probe_values(
    value: Value, shape: Sequence[int], probe: int, seed: int, style: Style = USUAL
) -> Array:
    """Draw the values of one input.

    Tokens are rows of the table they index, masks are padded on the right in the first probe and on
    the left in the second, positions count up. Floats are standard normal, then as bytes of an
    image or four times as wide, then zeros, tiny and large values of both signs among others.

    Args:
        value: the input.
        shape: of the array.
        probe: which of the probes, from 0.
        seed: of the generator; values depend on it, the probe and the input's name alone.
        style: another way to draw them.
    """
    random = np.random.default_rng([seed, probe, zlib.crc32(value.name.encode())])
    dtype = value.dtype or DType.FLOAT
    if dtype is DType.STRING:
        return np.full(shape, "a", dtype=object)
    kind = _kind(dtype)
    if dtype is DType.BOOL or "mask" in value.name.lower():
        return _mask(shape, probe, random).astype(kind)
    if dtype in INTEGERS:
        drawn = _integers(value, shape, probe, random)
        return (drawn if style.highest is None else np.minimum(drawn, style.highest)).astype(kind)
    if style.floats:
        unit = random.random(shape)
        return (unit if style.floats == "unit" else _waves(shape, probe) + 0.1 * unit).astype(kind)
    return _floats(value, shape, probe, random, dtype).astype(kind)


def _kind(dtype: DType) -> np.dtype[Any]:
    """Return the type to draw in; what numpy does not have, the model refuses in words."""
    try:
        return np.dtype(dtype.numpy_name)
    except TypeError:
        return np.dtype(np.float32)


def _mask(shape: Sequence[int], probe: int, random: np.random.Generator) -> Array:
    """Return zeros and ones: padded rows of two axes, else at random with a 1 in every row.

    The last probe has ones alone, as a caller without padding feeds.
    """
    if probe == 2 or not shape or not all(shape):
        return np.ones(shape, np.int64)
    if len(shape) != 2:
        drawn = random.integers(0, 2, shape)
        drawn[..., 0] = len(shape) > 1 or drawn[..., 0]
        return drawn
    rows, columns = shape
    kept = 1 + (np.arange(rows) * max(columns // 2, 1) + columns // 2) % columns
    right = (np.arange(columns) < kept[:, None]).astype(np.int64)
    return right if probe == 0 else right[:, ::-1]


def _integers(value: Value, shape: Sequence[int], probe: int, random: np.random.Generator) -> Array:
    low, high = _range(value, probe)
    if "position" in value.name.lower() and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape) % high
    return random.integers(low, high, shape)


def _range(value: Value, probe: int) -> tuple[int, int]:
    """Return the lowest integer that an input may hold, and one more than the highest."""
    tables = []
    for node, index in _reached(value):
        small = _SMALL.get((node.op, index))
        if small is not None and not node.domain:
            return small
        rows = _rows(node, index)
        if rows is not None:
            tables.append(max(rows, 1))
    if tables:
        return 0, min(tables)
    if value.dtype is DType.UINT8:
        return 0, 256
    if value.dtype is DType.INT8:
        return -128, 128
    return 0, _DEFAULT_VOCABULARY


def _reached(value: Value) -> Iterator[tuple[Node, int]]:
    """Yield the first nodes that read an input, also behind those that pass it on."""
    waiting, seen = [value], 0
    while waiting:
        for node, index in waiting.pop(0).uses:
            seen += 1
            if seen > _READERS:
                return
            yield node, index
            if index == 0 and node.op in _CARRIES and not node.domain:
                waiting += node.outputs


def _rows(node: Node, index: int) -> int | None:
    """Return how many rows there are to choose from, where an input chooses rows."""
    table = node.inputs[0]
    if node.op not in {"Gather", "GatherElements"} or index != 1 or table is None:
        return None
    axis = node.attribute("axis", 0)
    if not table.shape or not -len(table.shape) <= axis < len(table.shape):
        return None
    rows = table.shape[axis]
    return rows if isinstance(rows, int) else None


def _floats(
    value: Value, shape: Sequence[int], probe: int, random: np.random.Generator, dtype: DType
) -> Array:
    normal = random.standard_normal(shape)
    if probe == 0:
        return normal
    if probe == 1:
        return random.integers(0, 256, shape).astype(float) if _is_image(value) else 4 * normal
    edges = _SHORT_EDGES if dtype is DType.FLOAT16 else _EDGES
    chosen = random.integers(0, 2 * len(edges), shape)
    return np.where(chosen < len(edges), np.array(edges)[chosen % len(edges)], normal)


def _waves(shape: Sequence[int], probe: int) -> Array:
    """Return products of sines along every axis, as wide as a standard normal."""
    found = np.full(shape, 1.5)
    for axis, size in enumerate(shape):
        angles = np.linspace(0.3 + axis, 7.0 + probe + axis, size)
        found *= np.sin(angles).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return found


def _is_image(value: Value) -> bool:
    shape = value.shape or ()
    return len(shape) == _IMAGE_RANK and (shape[1] in _CHANNELS or shape[-1] in _CHANNELS)
