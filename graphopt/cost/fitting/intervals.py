"""Conformal intervals: quantiles of held-out measured over predicted times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COVERAGE = 0.9
"""Part of new measurements that an interval is made to hold."""


def conformal(
    ratios: Sequence[float], coverage: float = COVERAGE, wide: tuple[float, float] = (0.5, 2.0)
) -> tuple[float, float]:
    """Return bounds that hold the ratio of one more measurement with probability ``coverage``.

    The k-th smallest and k-th largest of n held-out ratios, k = floor((n + 1) (1 - coverage) / 2):
    valid for exchangeable samples whatever their distribution (Vovk, Gammerman and Shafer,
    Algorithmic Learning in a Random World, 2005, chapter 2). With fewer samples than that takes,
    the bounds are ``wide`` or the extremes, whichever is wider.

    Args:
        ratios: measured over predicted, of samples that were no part of the fit.
        coverage: between 0 and 1.
        wide: bounds where nothing better is known.
    """
    ordered = sorted(ratio for ratio in ratios if math.isfinite(ratio) and ratio > 0)
    rank = math.floor((len(ordered) + 1) * (1 - coverage) / 2)
    if rank < 1:
        return min([wide[0], *ordered[:1]]), max([wide[1], *ordered[-1:]])
    return min(ordered[rank - 1], 1.0), max(ordered[-rank], 1.0)
