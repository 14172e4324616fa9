"""Placement problems with a known optimum: published ones, and ones that are cut out of a block."""

from __future__ import annotations

import csv
import random
from typing import TYPE_CHECKING

from graphopt.cost.planning import Interval

if TYPE_CHECKING:
    from pathlib import Path

CAPACITY = 1 << 20
"""Height of a solution that is known for each published instance, bytes."""


def published(path: Path) -> list[Interval]:
    """Return one of MiniMalloc's instances."""
    with path.open(encoding="utf-8") as file:
        return [
            Interval(int(row["lower"]), int(row["upper"]), int(row["size"]))
            for row in csv.DictReader(file)
        ]


def cut_block(count: int, seed: int, *, side: int = 1024) -> list[Interval]:
    """Return ``count`` intervals that fill a square without a gap: the optimum is ``side``.

    The piece of the largest area among eight drawn at random is cut in two, across time or across
    memory, at a uniform place, until there are enough.
    """
    draw = random.Random(seed)
    pieces = [(0, side, side)]
    while len(pieces) < count:
        candidates = draw.sample(range(len(pieces)), min(8, len(pieces)))
        at = max(candidates, key=lambda i: (pieces[i][1] - pieces[i][0]) * pieces[i][2])
        lower, upper, size = pieces[at]
        across_time = draw.random() < 0.5
        length = upper - lower if across_time else size
        if length < 2:
            continue
        place = draw.randint(1, length - 1)
        if across_time:
            pieces[at : at + 1] = [(lower, lower + place, size), (lower + place, upper, size)]
        else:
            pieces[at : at + 1] = [(lower, upper, place), (lower, upper, size - place)]
    draw.shuffle(pieces)
    return [Interval(*piece) for piece in pieces]
