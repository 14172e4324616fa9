"""How hard a search looks: how many models it makes, and how carefully."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.errors import RecipeError
from graphopt.recipe.suggest import suggestion


@dataclass(frozen=True)
class Effort:
    """What a search may spend.

    Args:
        name: as it is asked for.
        formats: precisions that are pruned, of those that were tried.
        goals: shares of latency that a precision is first pruned to, largest first.
        bisections: steps between the last goal that holds and the first that does not.
        assignments: mixed precisions that are tried, from minimum cuts.
        pruning: effort of each pruning; an option of `prune-channels`.
        polished: effort of the last prunings, a little beyond what held; empty for none.
        finalists: models that are timed against each other where the target is this machine.
    """

    name: str
    formats: int
    goals: tuple[float, ...]
    bisections: int
    assignments: int
    pruning: str
    polished: str
    finalists: int


EFFORTS = {
    "quick": Effort("quick", 1, (), 0, 2, "quick", "", 3),
    "normal": Effort("normal", 1, (0.85, 0.7, 0.5), 1, 4, "normal", "careful", 4),
    "thorough": Effort("thorough", 3, (0.9, 0.8, 0.7, 0.55, 0.4), 3, 6, "thorough", "", 6),
}


def effort_of(name: str) -> Effort:
    """Return an effort by name; raises RecipeError G103."""
    if name not in EFFORTS:
        raise RecipeError(
            f"`{name}` is no effort",
            code="G103",
            where="--effort",
            hint=suggestion(name, list(EFFORTS), "efforts"),
        )
    return EFFORTS[name]
