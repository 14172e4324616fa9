"""The joint search: what to try, which models no other beats, and what is kept on disk."""

from graphopt.planner.joint.budgets import Budgets
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.planner.joint.effort import EFFORTS, Effort, effort_of
from graphopt.planner.joint.front import FASTEST, MOST_ACCURATE, RULES, Point, front_of, pick
from graphopt.planner.joint.store import Store
from graphopt.planner.joint.strategy import Wanted, most_pruned, rounds

__all__ = [
    "EFFORTS",
    "FASTEST",
    "MOST_ACCURATE",
    "RULES",
    "Budgets",
    "Candidate",
    "Effort",
    "Figures",
    "Made",
    "Point",
    "Store",
    "Wanted",
    "effort_of",
    "front_of",
    "most_pruned",
    "pick",
    "rounds",
]
