"""The accuracy that was kept, for the summary of a compile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout

if TYPE_CHECKING:
    from graphopt.report import ValidationRecord


def validated(record: ValidationRecord | None) -> list[str]:
    """Return how accurate the result is, and on which samples that was found."""
    if record is None:
        return []
    score = record.score
    unit = f" {score.unit}" if score.unit else ""
    lost = (
        f"{score.metric} {score.value:.4g}{unit}, the original has {record.original:.4g}: "
        f"{_shown(score.drop)} lost ({_shown(score.drop_low)} to {_shown(score.drop_high)} with "
        f"95 % confidence), {_shown(record.allowed)} allowed"
    )
    judged = (
        f"judged on {layout.plural(record.samples, 'sample')} of {record.origin}, none of the "
        f"{record.calibration_samples:,} that were calibrated on"
    )
    if record.dropped:
        judged += f"; {record.dropped:,} more are among those, and were left out"
    return [*layout.wrap(lost, rest="  "), *layout.wrap(judged, first="  ", rest="  ")]


def _shown(value: float) -> str:
    return f"{value if abs(value) >= 5e-7 else 0.0:.3g}"
