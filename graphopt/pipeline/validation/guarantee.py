"""What is guaranteed of a model's accuracy, and what is not, in a sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphopt.analysis.metrics import POINTS, Expects

if TYPE_CHECKING:
    from graphopt.pipeline.validation.guard import Guard
    from graphopt.report import ScoreRecord

_SMALLEST = 5e-7
_ELSEWHERE = "not guaranteed is the same on other data, where it may be more or less"
_CHOSEN = (
    "a model that was chosen among many by these samples looks a little better on them than it is"
)


def guarantee(guard: Guard, score: ScoreRecord | None = None) -> str:
    """Return one sentence: what was held to which limit on which samples, and what was not.

    Args:
        guard: what judged.
        score: of the model that was chosen; None before there is one.
    """
    name, unit = guard.metric.name, guard.metric.unit
    samples = f"on {guard.total:,} validation samples that nothing was calibrated on"
    told = [f"{samples} no loss of {name} is ruled out"]
    if math.isfinite(guard.allowed):
        told = [f"{samples} the model loses at most {amount(guard.allowed, unit)} of {name}"]
    if score is not None:
        ends = f"{_shown(score.drop_low)} and {amount(score.drop_high, unit)}"
        part = "" if score.samples == guard.total else f" on {score.samples:,} of them"
        told.append(
            f"it lost {amount(score.drop, unit)}{part}, between {ends} with 95 % confidence"
        )
    if score is not None and score.expected is not None:
        told.append(
            f"given all models that were judged, {amount(score.expected, unit)} are expected on "
            "other samples of the kind"
        )
        told.append(_ELSEWHERE)
    else:
        told.append(f"{_ELSEWHERE}, and {_CHOSEN}")
    if guard.metric.expects is Expects.ORIGINAL:
        told.append("nothing is said about how often the original itself is right")
    sentence = "; ".join(told)
    return f"{sentence[0].upper()}{sentence[1:]}."


def amount(value: float, unit: str) -> str:
    """Return a number with its unit."""
    number = _shown(value)
    return f"{number} {'point' if unit == POINTS and number == '1' else unit}".rstrip()


def _shown(value: float) -> str:
    """Return three digits; what is zero but for rounding is zero."""
    return f"{value if abs(value) >= _SMALLEST else 0.0:.3g}"
