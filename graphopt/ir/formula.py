"""Dimensions that an exporter writes as arithmetic on symbols, such as ``past + 1``."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def evaluate_text(text: str, sizes: Mapping[str, int]) -> int | None:
    """Return what a formula is where its symbols have sizes; None: no formula, or one is missing.

    A result below 0 is no size, and None.
    """
    try:
        body = ast.parse(text, mode="eval").body
        found = _value(body, sizes)
    except (SyntaxError, ValueError, MemoryError, RecursionError, ZeroDivisionError):
        return None
    return found if found is not None and found >= 0 else None


def _value(node: ast.expr, sizes: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Name):
        return sizes.get(node.id)
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int else None
    if not isinstance(node, ast.BinOp) or type(node.op) not in _ARITHMETIC:
        return None
    one, other = _value(node.left, sizes), _value(node.right, sizes)
    if one is None or other is None:
        return None
    return _ARITHMETIC[type(node.op)](one, other)
