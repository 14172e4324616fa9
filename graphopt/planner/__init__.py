"""Decides what a recipe leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.planner.plan import FLOAT, Plan, is_open, open_section, settled_options

if TYPE_CHECKING:
    from graphopt.planner.choice import PLACEMENTS, Decision, choose_plan

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


def __getattr__(name: str) -> Any:
    # Only recipes that leave something open need what chooses.
    if name not in __all__:
        raise AttributeError(f"module 'graphopt.planner' has no attribute {name!r}")
    from graphopt.planner import choice

    return getattr(choice, name)
