"""Decides what a recipe leaves open."""

from graphopt.planner.choice import PLACEMENTS, Decision, choose_plan
from graphopt.planner.plan import FLOAT, Plan, is_open, open_section, settled_options

__all__ = [
    "FLOAT",
    "PLACEMENTS",
    "Decision",
    "Plan",
    "choose_plan",
    "is_open",
    "open_section",
    "settled_options",
]
