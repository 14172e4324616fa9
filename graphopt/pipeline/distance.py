"""How far outputs are from what they should be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_SILENCE = 1e-6
"""Outputs smaller than this everywhere are compared with it, not with themselves."""


def snr_db(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Return 10 log10(sum reference^2 / sum (reference - output)^2) over all values, in dB.

    Equal outputs give infinity; outputs that are not finite where the reference is give -infinity.
    """
    signal = noise = 0.0
    for expected, found in zip(reference, outputs, strict=True):
        wanted, got = _numbers(expected), _numbers(found)
        if wanted is None or got is None:
            continue
        if wanted.shape != got.shape:
            return -math.inf
        usable = np.isfinite(wanted)
        if not np.isfinite(got[usable]).all():
            return -math.inf
        signal += float(np.square(wanted[usable]).sum())
        noise += float(np.square(wanted[usable] - got[usable]).sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def relative_error(reference: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Return the largest max|difference| / max|reference| of any output; inf on other shapes."""
    pairs = zip(reference, outputs, strict=True)
    return max((_error(expected, found) for expected, found in pairs), default=0.0)


def output_errors(reference: Sequence[Any], outputs: Sequence[Any]) -> tuple[float, ...]:
    """Return max|difference| / max|reference| of each output.

    What is no number must be equal, elements of sequences are compared one by one, and NaN and
    infinity must be where they are in the reference. Another shape or element type gives infinity.
    """
    if len(reference) != len(outputs):
        return (math.inf,) * max(len(reference), len(outputs))
    return tuple(
        _error(wanted, found) if _kind(wanted) == _kind(found) else math.inf
        for wanted, found in zip(reference, outputs, strict=True)
    )


def has_signal(arrays: Sequence[Any]) -> bool:
    """Whether any value is finite and not zero: a ratio to silence is not defined."""
    found = (_numbers(a) for a in arrays)
    return any(a is not None and bool((np.isfinite(a) & (a != 0)).any()) for a in found)


def _error(expected: Any, found: Any) -> float:
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return math.inf
        return max(map(_error, expected, found), default=0.0)
    wanted, got = _numbers(expected), _numbers(found)
    if wanted is None or got is None:
        return 0.0 if _same(expected, found) else math.inf
    if wanted.shape != got.shape:
        return math.inf
    usable = np.isfinite(wanted)
    whole = bool(usable.all())
    if whole:
        if not np.isfinite(got).all():
            return math.inf
    elif not _same_nonfinite(wanted, got, usable):
        return math.inf
    else:
        wanted, got = wanted[usable], got[usable]
    if not wanted.size:
        return 0.0
    scale = max(float(np.abs(wanted).max()), _SILENCE)
    return float(np.abs(wanted - got).max()) / scale


def _same_nonfinite(wanted: Array, got: Array, usable: Array) -> bool:
    """Whether NaN, infinity and minus infinity are at the same places."""
    if not np.array_equal(usable, np.isfinite(got)):
        return False
    return np.array_equal(wanted[~usable], got[~usable], equal_nan=True)


def _numbers(values: Any) -> Array | None:
    array = np.asarray(values) if isinstance(values, np.ndarray) else None
    if array is None or array.dtype == object or array.dtype.kind in "USc":
        return None
    return array.astype(np.float64)


def _same(expected: Any, found: Any) -> bool:
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray):
        return bool(np.array_equal(expected, found))
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = expected.keys() == found.keys()
        return keys and all(_error(expected[k], found[k]) == 0.0 for k in expected)
    return bool(repr(expected) == repr(found))


def _kind(value: Any) -> Any:
    return value.dtype if isinstance(value, np.ndarray) else type(value)
