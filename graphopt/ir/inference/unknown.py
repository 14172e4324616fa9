"""Symbols for lengths that nothing tells: one for each axis of each tensor, named after it."""

from __future__ import annotations

from graphopt.ir.dims import Expr, symbol

_MARKS = ("?", "~")
"""How names of lengths, and of elements, begin that were made up."""
_OF_ONNX = "unk__"


def fresh(label: str, axis: int) -> Expr:
    """Return the length of an axis of a tensor, of which nothing else is known."""
    return symbol(f"?{label}.{axis}")


def is_invented(name: str) -> bool:
    """Whether inference made the name up, this one or onnx's: no model says it twice."""
    return any(mark in name for mark in (*_MARKS, _OF_ONNX))
