"""What was asked of a search, besides the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.planner.joint import Budgets, Effort


@dataclass(frozen=True)
class Asked:
    """What was asked of a search.

    Args:
        budgets: upper bounds, as they were stated.
        effort: how much to try.
        seconds: after how long no further model is begun.
        pick: a rule, or the key of a point; None for what follows from the budgets.
    """

    budgets: Budgets
    effort: Effort
    seconds: float
    pick: str | None = None
