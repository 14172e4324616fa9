"""Fused attention: heads, groups of heads, and the positions that are rotated."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
