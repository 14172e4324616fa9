"""Long sequences of kernels made short enough to read: what repeats is shown once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

UNFOLDED = 60
"""So many kernels are shown as they are."""
MOST = 150
"""More rows than this are put together, several to a row."""
_SAVED = 3
"""Rows that a block must save, as it has a line of its own."""
_LONGEST = 96
"""Kernels of the longest block that is looked for."""


@dataclass(frozen=True)
class Row:
    """Kernels that are shown as one, by position; ``block`` numbers blocks that repeat.

    ``times`` is how often the block is there, 1 outside one.
    """

    members: tuple[int, ...]
    times: int = 1
    block: int | None = None


def folded(signs: Sequence[Hashable]) -> list[Row]:
    """Return the rows for kernels that look alike where their signs are equal."""
    if len(signs) <= UNFOLDED:
        return [Row((i,)) for i in range(len(signs))]
    rows = list(_repeats(signs))
    if len(rows) <= MOST:
        return rows
    step = -(-len(rows) // MOST)
    parts = [rows[i : i + step] for i in range(0, len(rows), step)]
    return [Row(tuple(sorted(m for row in part for m in row.members))) for part in parts]


def _repeats(signs: Sequence[Hashable]) -> Iterator[Row]:
    """Yield the rows, with each run of equal blocks as the rows of one block."""
    position = block = 0
    while position < len(signs):
        length, times = _best(signs, position)
        if length * (times - 1) < _SAVED:
            length, times = 1, 1
        alone = times == 1
        for offset in range(length):
            members = range(position + offset, position + length * times, length)
            yield Row(tuple(members), times, None if alone else block)
        block += not alone
        position += length * times


def _best(signs: Sequence[Hashable], start: int) -> tuple[int, int]:
    """Return length and number of the blocks from ``start`` on that save the most rows."""
    best = (1, 1)
    for length in range(1, min(_LONGEST, (len(signs) - start) // 2) + 1):
        first, times = signs[start : start + length], 1
        while signs[start + times * length : start + (times + 1) * length] == first:
            times += 1
        if length * (times - 1) > best[0] * (best[1] - 1):
            best = (length, times)
    return best
