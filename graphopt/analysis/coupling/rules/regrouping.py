"""Which axes before a reshape are which after it: minimal blocks of axes of the same product."""

from __future__ import annotations

import math
import operator
from itertools import accumulate, pairwise, takewhile
from typing import TYPE_CHECKING, NamedTuple

from graphopt.analysis.coupling.axes import Axis

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from graphopt.analysis.coupling.links import Links
    from graphopt.ir import Node, Value

Dim = int | str
Monomial = tuple[int, tuple[str, ...]]
"""A number times symbols, these sorted."""


class Block(NamedTuple):
    """Axes before, and the axes that they become: positions, without axes of one index."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def blocks(before: Sequence[Dim], after: Sequence[Dim]) -> list[Block]:
    """Return the finest blocks such that each has as many elements before as after.

    Two boundaries belong together where what lies in front of them has the same size on both sides,
    or what lies behind them. With symbols one of the two may be known where the other is not.

    Args:
        before: sizes; equal symbols are equal sizes.
        after: sizes of as many elements.
    """
    old = [i for i, dim in enumerate(before) if dim != 1]
    new = [i for i, dim in enumerate(after) if dim != 1]
    sides = [before[i] for i in old], [after[i] for i in new]
    fronts = _meet(*(_running(dims) for dims in sides))
    backs = _meet(*(_running(dims[::-1]) for dims in sides))
    found = fronts | {(len(old) - i, len(new) - j) for i, j in backs} | {(0, 0)}
    made, start = [], (0, 0)
    for end in [*sorted(found - {(len(old), len(new))}), (len(old), len(new))]:
        if end[0] > start[0] and end[1] > start[1]:
            made.append(Block(tuple(old[start[0] : end[0]]), tuple(new[start[1] : end[1]])))
            start = end
    return made


def _running(dims: Iterable[Dim]) -> dict[Monomial, int]:
    """Return the product of the first ``i`` sizes, for every ``i``, as {product: i}."""
    number, symbols = 1, tuple[str, ...]()
    found = {(number, symbols): 0}
    for index, dim in enumerate(dims, 1):
        if isinstance(dim, int):
            number *= dim
        else:
            symbols = tuple(sorted((*symbols, dim)))
        found[number, symbols] = index
    return found


def _meet(one: dict[Monomial, int], other: dict[Monomial, int]) -> set[tuple[int, int]]:
    return {(index, other[product]) for product, index in one.items() if product in other}


def regroup(node: Node, links: Links, source: Value, made: Value) -> None:
    """Couple two tensors of the same elements in the same order.

    Args:
        node: who makes the one of the other.
        links: what is said.
        source: the tensor before.
        made: the tensor after.
    """
    dims = [_dims(links, value) for value in (source, made)]
    if 0 in (*dims[0], *dims[1]):
        links.freeze_node(node, f"{node.op} `{node.label}` has no elements")
        return
    for block in blocks(*dims):
        old = [Axis(source, i) for i in block.before]
        new = [Axis(made, i) for i in block.after]
        if len(old) == len(new) == 1 and dims[0][block.before[0]] == dims[1][block.after[0]]:
            links.tie(old[0], new[0])
        else:
            _couple_block(node, links, old, new)


def _dims(links: Links, value: Value) -> list[Dim]:
    known = list(value.shape or ())
    symbols = links.symbols.shape(value)
    if symbols is None or len(symbols) != len(known):
        return [d if isinstance(d, int) else f"{value.name}?{i}" for i, d in enumerate(known)]
    return [d if isinstance(d, int) else s for d, s in zip(known, symbols, strict=True)]


def _couple_block(node: Node, links: Links, old: list[Axis], new: list[Axis]) -> None:
    """Couple axes that are run together and taken apart."""
    if any(axis.size is None for axis in (*old, *new)):
        reason = f"`{node.label}` reshapes it together with sizes that are not known"
        done = _couple_open(node, links, old, new)
    else:
        reason = f"`{node.label}` reshapes it into axes that do not divide each other"
        done = _couple_factors(node, links, old, new)
    for axis in (*old, *new):
        if axis not in done:
            links.freeze(axis, reason)


def _couple_open(node: Node, links: Links, old: list[Axis], new: list[Axis]) -> Collection[Axis]:
    """Couple what is known behind, or in front of, sizes that are not; return what was.

    A batch that is only known when the graph runs may be run together with heads: these stay, and
    the features of all of them may go. An image of any size may be run together with the channels
    of a group: these stay, and whole groups may go.
    """
    for step in (-1, 1):
        sides = [list(takewhile(_is_known, side[::step]))[::step] for side in (old, new)]
        short, long = sorted(sides, key=_elements)
        spare, rest = divmod(_elements(long), _elements(short))
        if short and not rest:
            (unknown,) = links.between(node, [spare])
            links.freeze(unknown, f"`{node.label}` runs it together with a size that is not known")
            padded = [unknown, *short] if step < 0 else [*short, unknown]
            return _couple_factors(node, links, padded, long)
    return ()


def _is_known(axis: Axis) -> bool:
    return axis.size is not None


def _elements(side: list[Axis]) -> int:
    return math.prod(axis.size or 1 for axis in side)


def _couple_factors(node: Node, links: Links, old: list[Axis], new: list[Axis]) -> Collection[Axis]:
    """Couple two sides by way of their common factors; return what was coupled, all or nothing."""
    marks = sorted({1, *_ends(old), *_ends(new)})
    if any(after % before for before, after in pairwise(marks)):
        return ()
    sizes = [after // before for before, after in pairwise(marks)]
    for axis, parts in _factors(node, links, sizes, (old, new)).items():
        links.multiply(axis, parts, node)
    return (*old, *new)


def _ends(side: list[Axis]) -> Iterable[int]:
    """Return the product of the first axes, for every number of them."""
    return accumulate((axis.size or 0 for axis in side), operator.mul)


def _factors(
    node: Node, links: Links, sizes: list[int], sides: tuple[list[Axis], list[Axis]]
) -> dict[Axis, list[Axis]]:
    """Return the factors of every axis that has several.

    A factor that is an axis on one side is that axis; one that is on neither is an axis that no
    tensor has: a batch of images run together with their heads, as nn.MultiheadAttention does.
    """
    factors: list[Axis] = list(links.between(node, sizes)) if sides[0][1:] and sides[1][1:] else []
    factors = factors or [sides[0][0]] * len(sizes)
    runs: dict[Axis, range] = {}
    for side in sides:
        start = 0
        for axis in side:
            stop = _run(sizes, start, axis.size or 1)
            runs[axis] = range(start, stop)
            if stop == start + 1:
                factors[start] = axis
            start = stop
    return {axis: [factors[i] for i in run] for axis, run in runs.items() if len(run) > 1}


def _run(sizes: Sequence[int], start: int, size: int) -> int:
    """Return where the factors from ``start`` on have the product ``size``."""
    stop, product = start, 1
    while product < size:
        product *= sizes[stop]
        stop += 1
    return stop
