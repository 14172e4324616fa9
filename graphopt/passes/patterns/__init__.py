"""What passes look for in a graph, and what they add to it.

Rules are written with the names here: terms (``Var``, ``Const``, ``Number``, ``op``, ``maybe``),
``Rule`` with its ``Match``, and ``rewrite``, which applies rules to a graph.
"""

from __future__ import annotations

from graphopt.passes.patterns.rewriting import Match, Rule, rewrite, why_not
from graphopt.passes.patterns.terms import Const, Number, Operators, Term, Var, maybe, op

__all__ = [
    "Const",
    "Match",
    "Number",
    "Operators",
    "Rule",
    "Term",
    "Var",
    "maybe",
    "op",
    "rewrite",
    "why_not",
]
