"""Facts as text: quantities with units, columns, wrapped paragraphs; no colour and no terminal."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 80
_PREFIXES = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))
_BYTES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def printable(text: str) -> str:
    """Escape what a terminal would act on: names in a model are foreign text."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def count(value: float) -> str:
    """Return a count in three digits: 11.7 M, 950, 64.2 k."""
    for factor, prefix in _PREFIXES:
        if value >= factor:
            return f"{digits(value / factor)}{prefix}"
    return f"{value:.0f}"


def digits(value: float) -> str:
    """Return three significant digits without an exponent where that reads well."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.1e}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 5)}f}"


def size(nbytes: float) -> str:
    """Return bytes in the binary unit that suits them: 44.6 MiB."""
    unit = 0
    while nbytes >= 1024 and unit < len(_BYTES) - 1:
        nbytes, unit = nbytes / 1024, unit + 1
    return f"{nbytes:.0f} bytes" if unit == 0 else f"{nbytes:.1f} {_BYTES[unit]}"


def quantity(value: float | None, unit: str) -> str:
    """Return a number with its unit; "-" for none."""
    if value is None or not math.isfinite(value):
        return "-"
    if unit == "bytes":
        return size(value)
    return f"{digits(value)} {unit}".rstrip()


def interval(low: float, high: float, unit: str) -> str:
    """Return "9.80 to 16.0 ms"."""
    shortened = size(low) if unit == "bytes" else digits(low)
    return f"{shortened} to {quantity(high, unit)}"


def change(before: float, after: float) -> str:
    """Return the relative change in percent: "-81 %"; empty where there is no sense in one."""
    if not (math.isfinite(before) and math.isfinite(after)) or before == 0:
        return ""
    percent = 100 * (after - before) / before
    if abs(percent) < 0.5:
        return "same" if after == before else f"{percent:+.1f} %"
    return f"{percent:+.0f} %"


def plural(number: int, noun: str, many: str | None = None) -> str:
    """Return "1 node", "2 nodes"; ``many`` is a plural that is not formed with an s."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {many or noun + 's'}"


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
