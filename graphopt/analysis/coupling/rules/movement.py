"""Operators that move whole slices of one axis: Concat, Split, Slice, Transpose, Pad, Tile."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
