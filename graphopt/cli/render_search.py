"""What `graphopt search` prints: the front, the model that was picked, what is guaranteed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graphopt.report import PointRecord, ScoreRecord, SearchRecord

_SHOWN = 12
_RIGHT = (1, 2, 3, 4)


def search_lines(record: SearchRecord, *, verbose: bool) -> list[str]:
    """Return the front, or with ``verbose`` everything that was tried."""
    lines = layout.wrap(_told(record))
    shown = _shown(record, verbose=verbose)
    rows: list[Sequence[str]] = [("key", "drop", "latency", "speed", "size", "model")]
    rows += [_row(point) for point in (record.original, *shown)]
    lines += ["", *table(rows, right=_RIGHT)]
    hidden = len(record.points) - len(shown)
    if hidden:
        lines.append(f"  {layout.plural(hidden, 'other')} tried; -v lists them")
    if verbose:
        lines += ["", *_reasons(record)]
    chosen = next((p for p in record.points if p.chosen), None)
    if chosen is not None:
        lines += ["", *layout.wrap(_accuracy(record, chosen))]
    return [*lines, *layout.wrap(record.guarantee)]


def written_line(record: SearchRecord, written: Sequence[Path]) -> str:
    """Return which files were written, and how long all of it took."""
    names = ", ".join(str(path) for path in written)
    return layout.printable(f"Wrote {names} in {record.seconds:.1f} s")


def _told(record: SearchRecord) -> str:
    stated = ", ".join(f"{name} {value}" for name, value in record.budgets.items())
    reused = sum(p.reused for p in record.points)
    made = layout.plural(len(record.points), "model")
    text = f"{made} tried with {layout.plural(record.workers, 'worker')} ({record.executor}), "
    text += f"effort {record.effort}, {stated or 'no budget'}"
    text += f"; {reused} of an earlier run" if reused else ""
    return f"{text}; {record.stopped}"


def _shown(record: SearchRecord, *, verbose: bool) -> list[PointRecord]:
    found = [p for p in record.points if verbose or p.status == "front" or p.chosen]
    found.sort(key=lambda p: (p.latency_ms is None, p.latency_ms or 0.0, p.label))
    return found if verbose else found[:_SHOWN]


def _row(point: PointRecord) -> tuple[str, ...]:
    mark = "> " if point.chosen else ""
    speed = f"{point.speedup:.2f} x" if point.speedup else "-"
    return (
        point.key or "-",
        _drop(point.score),
        layout.quantity(point.latency_ms, "ms") if point.latency_ms is not None else "-",
        speed,
        layout.size(point.size_bytes) if point.size_bytes is not None else "-",
        f"{mark}{point.label}",
    )


def _drop(score: ScoreRecord | None) -> str:
    return "-" if score is None else f"{score.drop:.2f} {score.unit}".rstrip()


def _accuracy(record: SearchRecord, chosen: PointRecord) -> str:
    score = chosen.score
    if score is None:
        return f"`{chosen.label}` was not judged"
    unit = f" {score.unit}" if score.unit else ""
    return (
        f"`{chosen.label}`: {score.metric} {score.value:.4g}{unit}, a drop of {score.drop:.3g}"
        f"{unit} (95 % interval {score.drop_low:.3g} to {score.drop_high:.3g}) on "
        f"{layout.plural(record.validation_samples, 'sample')}; calibrated on "
        f"{record.calibration_samples} others; latency {chosen.latency_source}"
    )


def _reasons(record: SearchRecord) -> list[str]:
    rows = [(p.key, p.status, p.why or "-") for p in record.points]
    return [*table([("key", "status", "why"), *rows])]
