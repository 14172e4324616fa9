"""Which kernel has which precision: minimum cuts of times, noise and borders."""

from __future__ import annotations

from graphopt.planner.assignment.propose import Assignment, propose_assignments

__all__ = ["Assignment", "propose_assignments"]
