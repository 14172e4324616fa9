"""How a model was judged, for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.pipeline.validation.scoring import record_of
from graphopt.report import ValidationRecord

if TYPE_CHECKING:
    from graphopt.pipeline.validation.guard import Guard
    from graphopt.pipeline.validation.scoring import Score
    from graphopt.report import ScoreRecord


def validation_record(guard: Guard, score: Score | ScoreRecord) -> ValidationRecord:
    """Return what a report says of the accuracy of the model that was written."""
    about = guard.about
    return ValidationRecord(
        origin=about.dataset.origin,
        samples=guard.total,
        dropped=about.dropped,
        calibration_samples=guard.calibration_samples,
        digest=about.dataset.digest,
        stated="" if about.drop is None else str(about.drop.spelling),
        allowed=guard.allowed,
        original=guard.original.record.value,
        score=record_of(score),
        kept=guard.holds(score),
        certain=guard.certain(score),
        guarantee=guard.guarantee(score),
    )
