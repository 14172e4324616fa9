"""What a student is to learn of a teacher, and how far it is from it; no labels."""

from __future__ import annotations

from graphopt_torch.teaching.objective import Objective
from graphopt_torch.teaching.output_kinds import Kind

__all__ = ["Kind", "Objective"]
