"""Operators that run axes together or take them apart: Reshape, Flatten, DepthToSpace."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
