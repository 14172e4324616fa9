"""Look-ups: Gather, and what else picks rows by numbers that only the data knows."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
