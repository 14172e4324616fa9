"""QuantizeLinear, DequantizeLinear, and products with packed weights."""

from __future__ import annotations

from graphopt.analysis.coupling.rule import CouplingRule

RULES: tuple[CouplingRule, ...] = ()
