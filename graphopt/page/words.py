"""Words that several sections of a page share."""

from __future__ import annotations

from graphopt.report.quantities import digits


def shortened(text: str, most: int) -> str:
    """Return ``text`` in at most so many characters, its middle left out."""
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 3
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def precision_class(precision: str) -> str:
    """Return the name of the colour of a precision."""
    if precision in {"float32", "float64"}:
        return "p-f32"
    if "float16" in precision:
        return "p-f16"
    if precision == "weight-only":
        return "p-w"
    return "p-i8" if "int" in precision else "p-none"


def times(before: float, after: float) -> str:
    """Return how many times smaller or faster: "2.7 times"; empty where there is no sense in it."""
    if before <= 0 or after <= 0:
        return ""
    return f"{digits(before / after)} times"


def microseconds(value: float) -> str:
    """Return a latency of a kernel: a dash for none."""
    return f"{value:,.1f}" if value > 0 else "-"
