"""What was asked of a search, besides the accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.errors import RecipeError
from graphopt.planner.joint import RULES, Budgets, effort_of
from graphopt.recipe.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.planner.joint import Effort

SECONDS = {"quick": 120.0, "normal": 240.0, "thorough": 3600.0}
"""After how long no further model is begun, by effort, unless told otherwise."""


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

    @classmethod
    def of(
        cls,
        budgets: Mapping[str, str | float | None] | None,
        effort: str,
        seconds: float | None,
        pick: str | None,
    ) -> Asked:
        """Return what the arguments of a search ask for; raises RecipeError G103."""
        found = effort_of(effort)
        # A key is found when all is made; what cannot be one is told before any work.
        if pick is not None and pick not in RULES and not set(pick) <= set("0123456789abcdef"):
            raise RecipeError(
                f"`{pick}` is neither a rule nor a key",
                code="G103",
                where="--pick",
                hint=suggestion(pick, RULES, "rules"),
            )
        usual = SECONDS[found.name] if seconds is None else seconds
        return cls(Budgets.parse(budgets or {}), found, usual, pick)
