"""What training won back, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.report import RecoveryRecord


def recovered(records: Sequence[RecoveryRecord]) -> list[str]:
    """Return what was trained, for how long, and what that changed."""
    if not records:
        return []
    rows = [("trained", "steps", "minutes", "divergence", "after", "")]
    rows += [_row(record) for record in records]
    return table(rows, right=(1, 2, 3, 4))


def _row(record: RecoveryRecord) -> tuple[str, str, str, str, str, str]:
    before, after = (_shown(value) for value in (record.before, record.after))
    augment = f"samples varied: {record.augment}" if record.augment else ""
    told = [record.why] if record.why else ["kept" if record.kept else "not kept", augment]
    return (
        f"{record.of} model",
        f"{record.steps:,}",
        f"{record.seconds / 60:.1f}",
        before,
        after,
        layout.printable("; ".join(filter(None, told))),
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
