"""Normalizations: per channel, over channels, and in groups of channels."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
