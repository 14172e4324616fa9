"""Reductions, softmax, and what sorts or searches along an axis."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
