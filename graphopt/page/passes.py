"""The passes that did something, and how that was checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.report.quantities import digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.report import PassRecord


@dataclass(frozen=True)
class PassRow:
    """One pass: what it did, and the difference that was found."""

    name: str
    status: str
    effect: str
    did: str
    checked: str
    seconds: str


@dataclass(frozen=True)
class PassTable:
    """The passes that did something or said why not, and the names of the rest."""

    rows: tuple[PassRow, ...]
    idle: tuple[str, ...]


def pass_table(passes: Sequence[PassRecord]) -> PassTable:
    """Return the passes in order; those that found nothing to do only by name."""
    idle = [p for p in passes if p.status == "unchanged" and p.effect == "exact"]
    rows = tuple(_row(p) for p in passes if p not in idle)
    return PassTable(rows, tuple(dict.fromkeys(p.name for p in idle)))


def _row(record: PassRecord) -> PassRow:
    said = [*record.notes, *([record.reason] if record.reason else [])]
    checks = []
    if record.max_error is not None:
        checks.append(f"largest error {digits(record.max_error)}")
    if record.snr_db is not None:
        checks.append(f"{digits(record.snr_db)} dB")
    return PassRow(
        name=record.name,
        status=record.status,
        effect=record.effect,
        did="; ".join(said) or "-",
        checked=", ".join(checks) or "-",
        seconds=f"{record.seconds:.1f}",
    )
