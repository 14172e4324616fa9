"""Sizes for the open dimensions of a model's inputs, and others to try where it refuses them."""

from __future__ import annotations

import ast
import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from graphopt.ir import Graph, Value

    Sizes = dict[str, int]

PROBES = 3
"""Two with all sizes different, from each other and between the two; one with as many 1 as go."""

_BATCHES = (2, 3, 1)
_LENGTHS = ((5, 7, 11, 13, 17, 19), (7, 4, 6, 9, 10, 8), (1,))
_PIXELS = ((32, 48, 40), (48, 32, 56), (32, 40, 48))
_LARGER = (((64, 96), (96, 64), (64, 96)), ((224, 256), (256, 224), (224, 256)))
_SQUARE = (64, 224, 320)
_ROUND = (8, 16, 32, 64, 128)
_MOST_PAIRS = 12
_IMAGE_RANK = 4
_LARGEST_BOUND = 64
"""An upper bound up to this is itself probed."""
_FLOATS = frozenset({DType.FLOAT, DType.FLOAT16, DType.DOUBLE, DType.BFLOAT16, DType.UINT8})


@dataclass(frozen=True)
class _Open:
    """One open dimension: the key that its size is kept under, and what it probably is."""

    key: str
    kind: str


class OpenSizes:
    """The open dimensions of a graph's inputs.

    Different symbols get different sizes, so that a pass which takes one for another is caught.
    A dimension without a name is a symbol of its own. ``past + 1`` is computed from ``past``.

    Args:
        graph: whose inputs are fed; its ``bounds`` on symbols are kept.
    """

    def __init__(self, graph: Graph) -> None:
        self._bounds = graph.bounds
        found: dict[str, _Open] = {}
        fixed: dict[int, None] = {}
        for value in graph.feeds:
            for axis, dim in enumerate(value.shape or ()):
                if isinstance(dim, int):
                    fixed[dim] = None
                    continue
                key = dim or f"{value.name}#{axis}"
                if _formula(key) is None:
                    found.setdefault(key, _Open(key, _kind(value, axis, key)))
        self._open = tuple(found.values())
        self._fixed = tuple(n for n in fixed if n > 1)

    def shape(self, value: Value, sizes: Sizes) -> list[int]:
        """Return the shape of an input for the sizes of one probe."""
        return [
            dim if isinstance(dim, int) else _size(dim or f"{value.name}#{axis}", sizes)
            for axis, dim in enumerate(value.shape or ())
        ]

    def first(self, probe: int) -> Sizes:
        """Return the sizes that a probe tries first."""
        sizes = self._base(probe)
        for key, (_, high) in self._bounds.items():
            if key in sizes and probe == 1 and high <= _LARGEST_BOUND:
                sizes[key] = high
        return self._bounded(sizes)

    def others(self, probe: int) -> Iterator[Sizes]:
        """Yield what to try when a model refuses those, the likeliest first.

        The number and the order are the same for all probes of a graph.
        """
        if not self._open:
            return
        base = self._base(probe)
        for change in self._changes(probe, base):
            yield self._bounded({**base, **change})

    def _base(self, probe: int) -> Sizes:
        counts: dict[str, int] = {}
        sizes = {}
        for one in self._open:
            table_of = "length" if one.kind == "past" else one.kind
            number = counts.setdefault(table_of, 0)
            counts[table_of] += 1
            table = {"batch": (_BATCHES[probe],), "pixels": _PIXELS[probe]}.get(
                one.kind, _LENGTHS[probe]
            )
            sizes[one.key] = table[number % len(table)] + 20 * (number // len(table)) * (probe < 2)
            if one.kind == "past" and probe == PROBES - 1:
                sizes[one.key] = 0
        return sizes

    def _changes(self, probe: int, base: Sizes) -> Iterator[Sizes]:
        pixels = self._of("pixels")
        lengths = [*self._of("past"), *self._of("length")]
        if "past" in {one.kind for one in self._open}:
            yield dict.fromkeys(self._of("past"), 1 + probe)
        yield from self._images(pixels, probe)
        yield from _sums(lengths, base)
        if lengths:
            yield dict.fromkeys(lengths, 5 + probe)
        for one, other in itertools.islice(itertools.combinations(base, 2), _MOST_PAIRS):
            yield {one: base[other]}
        rest = [*lengths, *pixels]
        for size in _ROUND:
            yield dict.fromkeys(rest, size)
        yield dict.fromkeys(self._of("batch"), 1)
        for size in (1, 2, 4):
            yield dict.fromkeys(base, size)
        for size in self._fixed[:_MOST_PAIRS]:
            yield dict.fromkeys(rest, size)

    def _images(self, pixels: Sequence[str], probe: int) -> Iterator[Sizes]:
        if not pixels:
            return
        for table in _LARGER:
            yield dict(zip(pixels, itertools.cycle(table[probe]), strict=False))
        for size in _SQUARE:
            yield dict.fromkeys(pixels, size + 32 * (probe == 1))

    def _of(self, kind: str) -> list[str]:
        return [one.key for one in self._open if one.kind == kind]

    def _bounded(self, sizes: Sizes) -> Sizes:
        for key, (low, high) in self._bounds.items():
            if key in sizes:
                sizes[key] = min(max(sizes[key], low), high)
        return sizes


def _kind(value: Value, axis: int, key: str) -> str:
    """Guess what a dimension is: batch, past (may be empty), pixels, or the length of something."""
    if "past" in key.lower():
        return "past"
    rank = len(value.shape or ())
    if axis >= 2 and rank >= _IMAGE_RANK and value.dtype in _FLOATS and "seq" not in key.lower():
        return "pixels"
    return "length" if axis else "batch"


def _sums(lengths: Sequence[str], base: Sizes) -> Iterator[Sizes]:
    """Yield one length as the sum of two others: what was seen and what is new, for a mask."""
    triples = (
        (total, one, other)
        for total in reversed(lengths)
        for one, other in itertools.combinations(lengths, 2)
        if total not in (one, other)
    )
    for total, one, other in itertools.islice(triples, _MOST_PAIRS):
        yield {total: base[one] + base[other]}


_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda a, b: a // b if b else a,
}


def _formula(key: str) -> ast.BinOp | None:
    """Return what a dimension such as ``past + 1`` is computed by; None where it is a name."""
    try:
        body = ast.parse(key, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return body if isinstance(body, ast.BinOp) and _is_arithmetic(body) else None


def _is_arithmetic(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in _ARITHMETIC and all(map(_is_arithmetic, (node.left, node.right)))
    return isinstance(node, ast.Name) or (
        isinstance(node, ast.Constant) and isinstance(node.value, int)
    )


def _size(key: str, sizes: Sizes) -> int:
    """Return the size of a symbol, or of a formula over symbols; what is new gets one."""
    if key in sizes:
        return sizes[key]
    formula = _formula(key)
    return max(_value(formula, sizes), 0) if formula is not None else 2


def _value(node: ast.expr, sizes: Sizes) -> int:
    if isinstance(node, ast.BinOp):
        rule = _ARITHMETIC[type(node.op)]
        return rule(_value(node.left, sizes), _value(node.right, sizes))
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    return sizes.get(ast.unparse(node), 2)
