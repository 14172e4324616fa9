"""From probabilities to a model: widths and bits that keep to every budget for certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt_torch.pruning.bit_choice import SAVED
from graphopt_torch.pruning.choose_widths import choose_widths

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np

    from graphopt_torch.pruning.prices import Prices
    from graphopt_torch.pruning.searching import Budgeted
    from graphopt_torch.pruning.terms import Terms

    Array = np.ndarray[Any, Any]


def decided_widths(
    prices: Prices,
    budgets: Sequence[Budgeted],
    scores: Mapping[str, Array],
    likely: Mapping[str, int],
    few: Collection[str],
) -> dict[str, int]:
    """Return widths at most as large as the likely ones, with which every budget is kept to.

    Args:
        prices: of the graph.
        budgets: with their limits.
        scores: what units are worth, by group; float64 [units].
        likely: the likeliest widths.
        few: weights that will have four bits.
    """
    widths = dict(likely)
    for budget in budgets:
        limit = budget.price.limit
        if budget.metric == "size" and few:
            limit += saved_bytes(budget.terms, widths, few)
        if prices.figure(budget.metric, widths) > limit:
            widths = choose_widths(prices, budget.metric, budget.terms, scores, widths, limit)
    return widths


def saved_bytes(terms: Terms, widths: Mapping[str, int], few: Collection[str]) -> float:
    """Return about how many bytes four bits save in some weights."""
    return SAVED * sum(t.value(widths) for t in terms.terms if t.owner in few)
