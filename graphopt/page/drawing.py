"""The graph before and after as two drawings: kernels in order of execution, joined by rails.

Each kernel is a row. A line down the middle joins a kernel with the next where that one reads it;
what is read later runs beside it on a rail of its own, the shortest nearest. So no layout has to be
searched for, nothing is drawn over a name, and two graphs can be read side by side.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.page.folding import folded
from graphopt.page.words import microseconds, precision_class, shortened
from graphopt.report.quantities import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graphopt.page.folding import Row
    from graphopt.report import KernelRecord, KernelsRecord

WIDTH = 380
_ROW, _LANE, _TOP, _BAR = 18, 9, 14, 44
_LANES = 7
"""Rails beside each other; what finds no free one shares the last."""
_READERS = 16
"""A rail ends at the last of so many readers; the page says so."""
_CHARACTERS = 37
_NAMED = 2
"""Of several kernels in a row, so many are named."""


@dataclass(frozen=True)
class Mark:
    """One row: a shape, a name, and a bar as long as the kernel takes."""

    y: int
    shape: str
    colour: str
    kernel: str
    name: str
    bar: float
    latency: str
    title: str


@dataclass(frozen=True)
class Block:
    """Rows that stand for several equal blocks, one behind the other."""

    y: int
    height: int
    text: str


@dataclass(frozen=True)
class Sketch:
    """One drawing; ``rails`` are SVG paths."""

    title: str
    height: int
    spine: int
    marks: tuple[Mark, ...]
    rails: tuple[str, ...]
    blocks: tuple[Block, ...]
    label: str


def drawing(kernels: KernelsRecord | None) -> list[Sketch]:
    """Return the drawings of the original and of the result; none where they are not known."""
    if kernels is None or not kernels.before:
        return []
    pairs = [("Before", kernels.before), ("After", kernels.after)]
    rows = [folded([(k.op, k.kernel, k.precision) for k in graph]) for _, graph in pairs]
    slowest = max(
        _time(graph, row) for (_, graph), part in zip(pairs, rows, strict=True) for row in part
    )
    return [
        _sketch(title, graph, part, slowest or 1.0)
        for (title, graph), part in zip(pairs, rows, strict=True)
    ]


def _sketch(
    title: str, kernels: Sequence[KernelRecord], rows: Sequence[Row], slowest: float
) -> Sketch:
    places, blocks, height = _places(rows)
    lanes = _lanes(_edges(kernels, rows))
    used = 1 + max((lane for *_, lane in lanes), default=-1)
    spine = 10 + _LANE * used
    marks = [_mark(kernels, row, y, spine, slowest) for row, y in zip(rows, places, strict=True)]
    counts = Counter(k.precision for k in kernels)
    parts = ", ".join(f"{n} in {name}" for name, n in counts.most_common())
    time = microseconds(sum(k.latency_us for k in kernels))
    return Sketch(
        title=f"{title}: {plural(len(kernels), 'kernel')}, {time} µs",
        height=height,
        spine=spine,
        marks=tuple(marks),
        rails=tuple(_rail(places, spine, *lane) for lane in lanes),
        blocks=tuple(blocks),
        label=f"{title}: {plural(len(kernels), 'kernel')} in order of execution, {parts}",
    )


def _places(rows: Sequence[Row]) -> tuple[list[int], list[Block], int]:
    """Return where each row is, the blocks around them, and the height of all."""
    places: list[int] = []
    spans: dict[int, tuple[int, int, int]] = {}
    y = _TOP
    for row in rows:
        if row.block is not None and row.block not in spans:
            spans[row.block] = (y - 8, y, row.times)
            y += _ROW
        places.append(y)
        if row.block is not None:
            top, _, times = spans[row.block]
            spans[row.block] = (top, y, times)
        y += _ROW
    blocks = [
        Block(top, end - top + 9, f"{n} times, bars are sums") for top, end, n in spans.values()
    ]
    return places, blocks, y


def _mark(kernels: Sequence[KernelRecord], row: Row, y: int, spine: int, slowest: float) -> Mark:
    found = [kernels[i] for i in row.members]
    first = found[0]
    precisions = {k.precision for k in found}
    precision = first.precision if len(precisions) == 1 else "mixed"
    kernel, name = first.kernel, first.node
    if len({k.kernel for k in found}) > 1:
        counts = Counter(k.kernel for k in found)
        kernel = plural(len(found), "kernel")
        name = ", ".join(f"{n} {k}" for k, n in counts.most_common(_NAMED))
    room = _CHARACTERS - (spine - 10) // 6
    kernel = shortened(kernel, room)
    time = _time(kernels, row)
    return Mark(
        y=y,
        shape=_SHAPES.get(precision_class(precision), "ring"),
        colour=precision_class(precision),
        kernel=kernel,
        name=shortened(name, max(room - len(kernel) - 1, 0)) if len(kernel) + 4 < room else "",
        bar=round(_BAR * time / slowest, 1),
        latency=microseconds(time),
        title=_title(found, precision, time),
    )


_SHAPES = {"p-f32": "circle", "p-f16": "diamond", "p-i8": "square", "p-w": "triangle"}


def _title(found: Sequence[KernelRecord], precision: str, time: float) -> str:
    names = [shortened(k.node, 80) for k in found if k.node]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = f": {', '.join(names[:_NAMED])}{more}" if names else ""
    kernels = shortened(", ".join(dict.fromkeys(k.kernel for k in found)), 80)
    return f"{kernels}, {precision}, {microseconds(time)} µs{shown}"


def _time(kernels: Sequence[KernelRecord], row: Row) -> float:
    return sum(kernels[i].latency_us for i in row.members)


def _edges(kernels: Sequence[KernelRecord], rows: Sequence[Row]) -> dict[int, list[int]]:
    """Return the later rows that read each row."""
    row_of = {member: index for index, row in enumerate(rows) for member in row.members}
    readers: dict[int, set[int]] = defaultdict(set)
    for index, kernel in enumerate(kernels):
        for source in kernel.reads:
            if row_of[source] < row_of[index]:
                readers[row_of[source]].add(row_of[index])
    return {source: sorted(found) for source, found in sorted(readers.items())}


def _lanes(edges: dict[int, list[int]]) -> list[tuple[int, tuple[int, ...], int]]:
    """Return (row, its readers, lane); -1 is the line between neighbours."""
    found: list[tuple[int, tuple[int, ...], int]]
    found = [(a, (a + 1,), -1) for a, readers in edges.items() if a + 1 in readers]
    far = [(a, tuple(b for b in readers if b != a + 1)[:_READERS]) for a, readers in edges.items()]
    taken: list[list[tuple[int, int]]] = [[] for _ in range(_LANES)]
    for start, readers in sorted((r for r in far if r[1]), key=lambda r: (r[1][-1] - r[0], r[0])):
        end = readers[-1]
        lane = next((i for i, spans in enumerate(taken) if _free(spans, start, end)), _LANES - 1)
        taken[lane].append((start, end))
        found.append((start, readers, lane))
    return found


def _free(spans: Iterable[tuple[int, int]], start: int, end: int) -> bool:
    return all(end <= a or b <= start for a, b in spans)


def _rail(
    places: Sequence[int], spine: int, start: int, readers: tuple[int, ...], lane: int
) -> str:
    """Return a line from a row to those that read it."""
    y = places[start]
    if lane < 0:
        return f"M{spine} {y}V{places[readers[0]]}"
    x = spine - _LANE * (lane + 1)
    path = f"M{spine} {y}Q{x} {y} {x} {y + _ROW // 2}V{places[readers[-1]] - _ROW // 2}"
    ends = (f"M{x} {places[b] - _ROW // 2}Q{x} {places[b]} {spine} {places[b]}" for b in readers)
    return path + "".join(ends)
