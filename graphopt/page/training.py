"""The trainings of a compile, as a table of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.page.tried import Trials
from graphopt.report.quantities import digits

if TYPE_CHECKING:
    from graphopt.report import RecoveryRecord, Report

_HEAD = ("Model", "Steps", "Minutes", "Divergence before", "After", "Samples varied", "What of it")
_ABOUT = (
    "What was left learned from the original, without labels. Divergences are of the outputs from "
    "the original's, on samples that were not trained on."
)


def training(report: Report) -> Trials | None:
    """Return what was trained, and what that changed; None where nothing was."""
    if not report.recovery:
        return None
    rows = tuple((_cells(record), record.kept) for record in report.recovery)
    return Trials("Training", _ABOUT, _HEAD, frozenset({1, 2, 3, 4}), rows)


def _cells(record: RecoveryRecord) -> tuple[str, ...]:
    return (
        f"{record.of}, by {record.by}",
        f"{record.steps:,}",
        f"{record.seconds / 60:.1f}",
        *("-" if value is None else digits(value) for value in (record.before, record.after)),
        record.augment or "-",
        record.why or ("kept" if record.kept else "not kept"),
    )
