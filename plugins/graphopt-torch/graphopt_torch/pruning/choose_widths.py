"""Which units go next: least worth for what they save, in steps that pay on the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.errors import PassError
from graphopt_torch.pruning.sites import kept_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.passes.prune.goal import Metric
    from graphopt_torch.pruning.prices import Prices
    from graphopt_torch.pruning.sites import Site
    from graphopt_torch.pruning.terms import Terms

    Array = np.ndarray[Any, Any]

_ROUNDS = 4
_SMALLEST = 1e-12


def choose_widths(
    prices: Prices,
    metric: Metric,
    terms: Terms,
    scores: Mapping[str, Array],
    now: Mapping[str, int],
    limit: float,
) -> dict[str, int]:
    """Return widths, none above what it is now, with which a figure is at most the limit.

    The step of the least worth per saving is taken until the tables say that it is enough, and the
    cost model is asked whether it is; where it is not, more is asked of the tables.

    Args:
        prices: of the graph.
        metric: which figure.
        terms: of that figure.
        scores: what each unit is worth, by group; float64 [units].
        now: the widths so far.
        limit: what is to be reached, in the unit of the figure.

    Raises:
        PassError: G308, even the narrowest widths are not enough.
    """
    asked, widths = limit, dict(now)
    for _ in range(_ROUNDS):
        narrow = _narrowed(prices.sites, terms, scores, widths, asked)
        widths = _widened(prices.sites, terms, scores, narrow, now, asked)
        figure = prices.figure(metric, widths)
        if figure <= limit:
            return widths
        asked = min(asked, terms.value(widths)) * limit / figure
    while prices.figure(metric, widths) > limit:
        step = _best_step(prices.sites, terms, scores, widths)
        if step is None:
            raise PassError(
                f"{metric} cannot get below {prices.figure(metric, widths):.4g}, and "
                f"{limit:.4g} was asked",
                code="G308",
                hint="ask for less; `graphopt analyze --pruning MODEL` shows what can go",
            )
        widths[step[0]] = step[1]
    return widths


def _narrowed(
    sites: Sequence[Site],
    terms: Terms,
    scores: Mapping[str, Array],
    now: Mapping[str, int],
    limit: float,
) -> dict[str, int]:
    """Return widths with which the tables give at most a limit, or the narrowest."""
    widths = dict(now)
    while terms.value(widths) > limit:
        step = _best_step(sites, terms, scores, widths)
        if step is None:
            break
        widths[step[0]] = step[1]
    return widths


def _widened(
    sites: Sequence[Site],
    terms: Terms,
    scores: Mapping[str, Array],
    widths: Mapping[str, int],
    now: Mapping[str, int],
    limit: float,
) -> dict[str, int]:
    """Give back what a last large step has taken beyond the limit, what is worth most first."""
    found = dict(widths)
    wider = [
        (_worth(site, scores[site.name], width, found[site.name]), site.name, width)
        for site in sites
        for width in site.widths
        if found[site.name] < width <= now[site.name]
    ]
    for _, name, width in sorted(wider, key=lambda each: (-each[0], each[1:])):
        if width > found[name] and terms.value({**found, name: width}) <= limit:
            found[name] = width
    return found


def _best_step(
    sites: Sequence[Site], terms: Terms, scores: Mapping[str, Array], widths: Mapping[str, int]
) -> tuple[str, int] | None:
    """Return the group and its next width that lose least for what they save; None if none does."""
    best: tuple[float, str, int] | None = None
    for site in sites:
        near = terms.touching(site.name)
        before = near.value(widths)
        for width in site.widths:
            if width >= widths[site.name]:
                break
            saved = before - near.value({**widths, site.name: width})
            if saved > _SMALLEST * max(abs(before), 1.0):
                worth = _worth(site, scores[site.name], widths[site.name], width)
                found = (worth / saved, site.name, width)
                best = min(best, found) if best is not None else found
    return None if best is None else best[1:]


def _worth(site: Site, scores: Array, before: int, after: int) -> float:
    """Return what the units between two widths are worth together."""
    gone = kept_units(site, scores, before) & ~kept_units(site, scores, after)
    return float(scores[gone].sum()) + _SMALLEST * int(gone.sum())
