"""Facts as text: quantities with units, columns, wrapped paragraphs; no colour and no terminal."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from graphopt.report.quantities import (
    change,
    count,
    digits,
    interval,
    plural,
    quantity,
    size,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "WIDTH",
    "change",
    "columns",
    "count",
    "digits",
    "interval",
    "plural",
    "printable",
    "quantity",
    "shape",
    "size",
    "wrap",
]

WIDTH = 80


def printable(text: str) -> str:
    """Escape what a terminal would act on: names in a model are foreign text."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def shape(dims: Sequence[int | str | None] | None) -> str:
    """Return "1x3x224x224"; unknown dimensions are "?"."""
    if dims is None:
        return "any rank"
    return "x".join("?" if d is None else str(d) for d in dims) or "scalar"


def wrap(text: str, *, first: str = "", rest: str = "", width: int = WIDTH) -> list[str]:
    """Break a paragraph into lines; never inside a word, so that names and paths stay whole."""
    return textwrap.wrap(
        printable(text),
        width=width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def columns(
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    indent: str = "  ",
    gap: int = 2,
    width: int | None = WIDTH,
) -> list[str]:
    """Align ``rows``; the last column is wrapped at ``width`` and hangs under itself.

    Args:
        rows: cells, the same number in each row.
        right: which columns are aligned to the right.
        indent: what each line starts with.
        gap: spaces between columns.
        width: where to wrap; None never wraps, for output that a program reads.
    """
    cells = [[printable(c) for c in row] for row in rows]
    last = len(cells[0]) - 1 if cells else 0
    widths = [max(len(row[i]) for row in cells) for i in range(last + 1)] if cells else []
    lines: list[str] = []
    for row in cells:
        head = indent
        for i, cell in enumerate(row[:-1]):
            head += (cell.rjust if i in right else cell.ljust)(widths[i]) + " " * gap
        tail = row[-1].rjust(widths[-1]) if last in right else row[-1]
        if width is None or last in right or len(head) > width - 16:
            lines.append((head + tail).rstrip())
        else:
            lines += [s.rstrip() for s in wrap(tail, first=head, rest=" " * len(head), width=width)]
    return lines
