"""Which widths to look at together, so that few models tell what every pair of widths costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from graphopt_torch.pruning.sites import Site

_PRIMES = (2, 3, 5, 7)


def trial_widths(
    sites: Sequence[Site], meetings: Collection[frozenset[str]]
) -> list[dict[str, int]]:
    """Return widths of all groups for each model to look at.

    Groups that meet in a kernel get different columns of an orthogonal array of strength two over L
    levels: L^2 rows in which every two columns take every pair of levels (Bose, Bush 1952). With
    more than L + 1 columns some pairs are missed, and are interpolated.

    Args:
        sites: the groups.
        meetings: names of groups that a kernel depends on, for each kernel.
    """
    most = max((len(site.widths) for site in sites), default=2)
    levels = next((prime for prime in _PRIMES if prime >= most), _PRIMES[-1])
    columns = _columns(sites, meetings, levels + 1)
    rows = [(a, b) for a in range(levels) for b in range(levels)]
    return [
        {site.name: _width(site, _level(row, columns[site.name], levels), levels) for site in sites}
        for row in rows
    ]


def _level(row: tuple[int, int], column: int, levels: int) -> int:
    first, second = row
    return second if column == levels else (first + column * second) % levels


def _width(site: Site, level: int, levels: int) -> int:
    return site.widths[round(level * (len(site.widths) - 1) / (levels - 1))]


def _columns(
    sites: Sequence[Site], meetings: Collection[frozenset[str]], count: int
) -> Mapping[str, int]:
    """Return a column for each group, another than those of the groups that it meets."""
    near: dict[str, set[str]] = {site.name: set() for site in sites}
    for names in meetings:
        for name in names:
            near[name] |= names - {name}
    chosen: dict[str, int] = {}
    for name in sorted(near, key=lambda each: (-len(near[each]), each)):
        taken = {chosen[other] for other in near[name] if other in chosen}
        free = (column for column in range(count) if column not in taken)
        chosen[name] = next(free, len(chosen) % count)
    return chosen
