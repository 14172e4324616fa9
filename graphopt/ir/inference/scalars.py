"""Arithmetic on one element: a number, a truth value, or an expression that stands for either.

Every function returns None for what it cannot say; whoever asked makes up a symbol for that.
Sizes that are computed in floating point are taken to be below 2^24, where float32 is exact.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.ir import dims as d
from graphopt.ir.dims import Expr
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    IsLength = Callable[[d.Dim], bool]
    """Whether some tensor is that long, which no negative number is."""

_RANGES = {DType.INT32: 31, DType.INT64: 63}


def _whole(value: Any) -> d.Dim | None:
    """Return an element as a size: whole floats are numbers too."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else None
    return int(value)


def cast(value: Any, dtype: DType) -> Any:
    """Return the element as another type."""
    if isinstance(value, Expr):
        if dtype is DType.BOOL:
            bottom = d.least(value)
            return True if bottom is not None and bottom > 0 else None
        return value if dtype in _RANGES or dtype.is_float else None
    if dtype is DType.BOOL:
        return bool(value)
    if dtype in _RANGES:
        return _within(int(value), dtype) if math.isfinite(value) else None
    if dtype is DType.FLOAT:
        return float(np.float32(value))
    return float(value) if dtype is DType.DOUBLE else None


def _within(value: int, dtype: DType) -> int | None:
    limit = 1 << _RANGES[dtype]
    return value if -limit <= value < limit else None


def fits(value: Any, dtype: DType) -> bool:
    """Whether a number is one that the type holds: others wrap round, each runtime in its way."""
    if dtype not in _RANGES or not isinstance(value, int):
        return True
    return _within(value, dtype) is not None


def _rounded(rule: Callable[[float], float]) -> Callable[[Any], Any]:
    def compute(value: Any) -> Any:
        if isinstance(value, Expr):
            return value
        return float(rule(value)) if math.isfinite(value) else value

    return compute


def _negative(value: Any) -> Any:
    return d.multiply(value, -1) if isinstance(value, Expr) else -value


def _absolute(value: Any) -> Any:
    if isinstance(value, Expr):
        return value if d.is_at_least(value, 0) else None
    return abs(value)


def _not(value: Any) -> Any:
    return None if isinstance(value, Expr) else not value


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "Abs": _absolute,
    "Ceil": _rounded(math.ceil),
    "Floor": _rounded(math.floor),
    "Neg": _negative,
    "Not": _not,
    "Round": _rounded(round),
}


def _arithmetic(
    whole: Callable[[d.Dim, d.Dim, IsLength], Any], real: Callable[[Any, Any], Any]
) -> Callable[[Any, Any, IsLength, bool], Any]:
    """Return a function of two elements from one for sizes and one for floats."""

    def compute(one: Any, other: Any, is_length: IsLength, single: bool) -> Any:
        if isinstance(one, float) and isinstance(other, float):
            kind = np.float32 if single else np.float64
            with np.errstate(all="ignore"):
                return float(real(kind(one), kind(other)))
        left, right = _whole(one), _whole(other)
        if left is None or right is None:
            return None
        found = whole(left, right, is_length)
        if isinstance(one, float) or isinstance(other, float):
            return float(found) if isinstance(found, int) else found
        return found if not isinstance(found, int) else _within(found, DType.INT64)

    return compute


def _divide(one: d.Dim, other: d.Dim, is_length: IsLength) -> d.Dim | None:
    """Divide as ONNX does: towards zero, which is down only for what is not negative."""
    if isinstance(one, int) and isinstance(other, int):
        if other == 0:
            return None
        quotient = abs(one) // abs(other)
        return quotient if (one < 0) == (other < 0) else -quotient
    exact = d.exact_quotient(one, other)
    if exact is not None:
        return exact
    positive = all(d.is_at_least(v, 0) or is_length(v) for v in (one, other))
    return d.floor_divide(one, other) if positive else None


def _remainder(one: d.Dim, other: d.Dim, is_length: IsLength) -> d.Dim | None:
    """Return what is left, with the sign of the divisor."""
    if isinstance(one, int) and isinstance(other, int):
        return one % other if other else None
    quotient = d.floor_divide(one, other)
    return None if quotient is None else d.subtract(one, d.multiply(other, quotient))


def _power(one: d.Dim, other: d.Dim, is_length: IsLength) -> d.Dim | None:
    if not isinstance(other, int) or not 0 <= other <= 8:
        return None
    return d.product([one] * other)


def _less(one: d.Dim, other: d.Dim) -> bool | None:
    """Whether one size is less than another, whatever the symbols are."""
    if d.is_at_least(one, other):
        return False
    return True if d.is_at_least(other, d.add(one, 1)) else None


def _equal(one: d.Dim, other: d.Dim, is_length: IsLength) -> bool | None:
    if one == other:
        return True
    # A length is never negative.
    for size, number in ((one, other), (other, one)):
        if isinstance(number, int) and number < 0 and (is_length(size) or d.is_at_least(size, 0)):
            return False
    apart = any(d.is_at_least(a, d.add(b, 1)) for a, b in ((one, other), (other, one)))
    return False if apart else None


def _and(one: d.Dim, other: d.Dim, is_length: IsLength) -> bool | None:
    if one == 0 or other == 0:
        return False
    return True if isinstance(one, int) and isinstance(other, int) else None


def _or(one: d.Dim, other: d.Dim, is_length: IsLength) -> bool | None:
    if any(isinstance(v, int) and v for v in (one, other)):
        return True
    return False if isinstance(one, int) and isinstance(other, int) else None


def _tested(
    whole: Callable[[d.Dim, d.Dim, IsLength], bool | None], real: Callable[[Any, Any], Any]
) -> Callable[[Any, Any, IsLength, bool], Any]:
    def compute(one: Any, other: Any, is_length: IsLength, single: bool) -> Any:
        if isinstance(one, float) or isinstance(other, float):
            if isinstance(one, Expr) or isinstance(other, Expr):
                return None
            return bool(real(one, other))
        left, right = _whole(one), _whole(other)
        return None if left is None or right is None else whole(left, right, is_length)

    return compute


def _inverted(found: bool | None) -> bool | None:
    return None if found is None else not found


BINARY: Mapping[str, Callable[[Any, Any, IsLength, bool], Any]] = {
    "Add": _arithmetic(lambda a, b, _: d.add(a, b), lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b, _: d.subtract(a, b), lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b, _: d.multiply(a, b), lambda a, b: a * b),
    "Div": _arithmetic(_divide, lambda a, b: a / b if b else math.nan),
    "Mod": _arithmetic(_remainder, lambda a, b: math.nan),
    "Pow": _arithmetic(_power, lambda a, b: math.nan),
    "Min": _arithmetic(lambda a, b, _: d.smaller(a, b), min),
    "Max": _arithmetic(lambda a, b, _: d.larger(a, b), max),
    "Equal": _tested(_equal, lambda a, b: a == b),
    "Less": _tested(lambda a, b, _: _less(a, b), lambda a, b: a < b),
    "Greater": _tested(lambda a, b, _: _less(b, a), lambda a, b: a > b),
    "LessOrEqual": _tested(lambda a, b, _: _inverted(_less(b, a)), lambda a, b: a <= b),
    "GreaterOrEqual": _tested(lambda a, b, _: _inverted(_less(a, b)), lambda a, b: a >= b),
    "And": _tested(_and, lambda a, b: a and b),
    "Or": _tested(_or, lambda a, b: a or b),
}


def choose(test: Any, one: Any, other: Any) -> Any:
    """Return what Where picks; None where the test is open and the two differ."""
    if isinstance(test, Expr):
        return one if type(one) is type(other) and one == other else None
    return one if test else other
