"""Rewriting a graph for an older default operator set."""

from __future__ import annotations

from graphopt.ir.downgrade.rewrite import OLDEST, downgrade_opset

__all__ = ["OLDEST", "downgrade_opset"]
