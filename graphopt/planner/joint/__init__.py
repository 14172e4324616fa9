"""The joint search: what to try, which models no other beats, and what is kept on disk."""

from graphopt.planner.joint.budgets import Budgets
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.planner.joint.effort import EFFORTS, Effort, effort_of
from graphopt.planner.joint.front import (
    FASTEST,
    MOST_ACCURATE,
    RULES,
    SMALLEST,
    Point,
    front_of,
    pick,
)
from graphopt.planner.joint.luck import expected_drops, with_expected
from graphopt.planner.joint.store import Store
from graphopt.planner.joint.storing import is_stored, most_stored, stored, storing_rounds
from graphopt.planner.joint.strategy import (
    Wanted,
    most_fitted,
    most_polished,
    most_pruned,
    rounds,
)

__all__ = [
    "EFFORTS",
    "FASTEST",
    "MOST_ACCURATE",
    "RULES",
    "SMALLEST",
    "Budgets",
    "Candidate",
    "Effort",
    "Figures",
    "Made",
    "Point",
    "Store",
    "Wanted",
    "effort_of",
    "expected_drops",
    "front_of",
    "is_stored",
    "most_fitted",
    "most_polished",
    "most_pruned",
    "most_stored",
    "pick",
    "rounds",
    "stored",
    "storing_rounds",
    "with_expected",
]
