"""Choose one option of every site so that enough is gained and least is lost.

A multiple-choice knapsack: losses of different sites add up (divergences of small changes do), and
so do gains. A block may be changed as a whole, or what is inside it may be, but not both.

Source: Sinha, Zoltners 1979, "The multiple-choice knapsack problem"; solved by dynamic programming
over gains that are rounded down, so that what is promised is gained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_BINS = 4000
_MOST_POINTS = 64


@dataclass(frozen=True)
class Option:
    """One way to change one site.

    Args:
        site: which.
        label: what is done, unique within the site.
        loss: what it costs in divergence, at least 0.
        gain: what it saves, in the unit of the goal.
    """

    site: str
    label: str
    loss: float
    gain: float


@dataclass(frozen=True)
class Block:
    """A site, or a part of the graph that holds several.

    Args:
        options: ways to change it as a whole; doing nothing is always possible.
        inside: blocks that can be changed instead.
    """

    options: tuple[Option, ...]
    inside: tuple[Block, ...] = ()


@dataclass(frozen=True)
class _Point:
    gain: float
    loss: float
    chosen: tuple[Option, ...]


def allocate(blocks: Sequence[Block], wanted: float) -> tuple[Option, ...] | None:
    """Return the options with the least total loss whose gains reach what is wanted.

    Args:
        blocks: independent of each other.
        wanted: gain, in the unit of the options.

    Returns:
        At most one option of each site; None where even everything is not enough.
    """
    if wanted <= 0:
        return ()
    width = wanted / _BINS
    losses = np.full(_BINS + 1, np.inf)
    losses[0] = 0.0
    steps: list[tuple[list[_Point], np.ndarray]] = []
    for block in blocks:
        points = _points(block)
        losses, taken = _add(losses, points, width)
        steps.append((points, taken))
    if not np.isfinite(losses[_BINS]):
        return None
    chosen: list[Option] = []
    level = _BINS
    for points, taken in reversed(steps):
        point = points[taken[level]]
        chosen += point.chosen
        level = max(0, level - int(point.gain / width))
    return tuple(reversed(chosen))


def _add(
    losses: np.ndarray, points: Sequence[_Point], width: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least loss for each gain with one more block, and the point that it takes."""
    best = np.full(losses.size, np.inf)
    taken = np.zeros(losses.size, dtype=np.int64)
    for number, point in enumerate(points):
        gained = min(int(point.gain / width), losses.size - 1)
        total = np.empty_like(losses)
        total[gained:] = losses[: losses.size - gained]
        total[:gained] = losses[0]
        total += point.loss
        better = total < best
        best[better], taken[better] = total[better], number
    return best, taken


def _points(block: Block) -> list[_Point]:
    """Return the ways to change a block that no other beats, from none to most."""
    inner = [_Point(0.0, 0.0, ())]
    for part in block.inside:
        own = _points(part)
        inner = _pareto(
            [
                _Point(a.gain + b.gain, a.loss + b.loss, a.chosen + b.chosen)
                for a in inner
                for b in own
            ]
        )
    whole = [_Point(o.gain, o.loss, (o,)) for o in block.options if o.gain > 0]
    return _pareto([*inner, *whole])


def _pareto(points: list[_Point]) -> list[_Point]:
    kept: list[_Point] = []
    for point in sorted(points, key=lambda p: (-p.gain, p.loss, len(p.chosen))):
        if not kept or point.loss < kept[-1].loss:
            kept.append(point)
    kept.reverse()
    if len(kept) > _MOST_POINTS:  # the ends stay; between them, evenly by rank
        places = np.unique(np.linspace(0, len(kept) - 1, _MOST_POINTS).astype(int))
        kept = [kept[place] for place in places]
    return kept
