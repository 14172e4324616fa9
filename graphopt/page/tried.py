"""What was tried: the models of a search, placements, removed units, operators left in float."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.report.quantities import digits, interval, quantity

if TYPE_CHECKING:
    from graphopt.report import (
        CandidateRecord,
        PointRecord,
        PrecisionRecord,
        PruningRecord,
        Report,
        ScoreRecord,
        SearchRecord,
    )

ROWS = 200
_STATUSES = ("front", "dominated", "over budget", "too lossy", "stopped early", "failed")


@dataclass(frozen=True)
class Trials:
    """One kind of trial: a table with its head; rows are (cells, whether it was chosen)."""

    title: str
    about: str
    head: tuple[str, ...]
    numeric: frozenset[int]
    rows: tuple[tuple[tuple[str, ...], bool], ...]
    left_out: int = 0


def tried(report: Report, search: SearchRecord | None) -> list[Trials]:
    """Return what was tried, the largest decision first."""
    found = []
    if search is not None:
        found.append(_models(search))
    if report.candidates:
        found.append(_placements(report.candidates))
    if report.precision is not None and report.precision.returned:
        found.append(_returned(report.precision))
    if report.pruning is not None:
        found += _pruned(report.pruning)
    return found


def _models(search: SearchRecord) -> Trials:
    points = (search.original, *sorted(search.points, key=_rank))
    return Trials(
        title="Models",
        about="Every model that the search made, the fastest first of each status.",
        head=("Model", "Status", "Accuracy", "Lost", "Latency", "Speed", "Size", "Memory",
              "Energy", "Why", "Settings"),
        numeric=frozenset(range(2, 9)),
        rows=tuple((_point(p, p is search.original), p.chosen) for p in points[:ROWS]),
        left_out=max(0, len(points) - ROWS),
    )  # fmt: skip


def _rank(point: PointRecord) -> tuple[bool, int, float, str]:
    known = point.status in _STATUSES
    place = _STATUSES.index(point.status) if known else len(_STATUSES)
    ms = point.latency_ms if point.latency_ms is not None else math.inf
    return (not point.chosen, place, ms, point.key)


def _point(point: PointRecord, is_original: bool) -> tuple[str, ...]:
    status = "original" if is_original else point.status
    ms = quantity(point.latency_ms, "ms")
    return (
        f"{point.label} ({point.file})" if point.file else point.label,
        f"{status}, chosen" if point.chosen else status,
        _with_interval(point.score),
        digits(point.score.drop) if point.score is not None else "-",
        f"{ms} {point.latency_source}" if point.latency_ms is not None else ms,
        f"{point.speedup:.2f} x" if point.speedup is not None else "-",
        quantity(point.size_bytes, "bytes"),
        quantity(point.ram_bytes, "bytes"),
        digits(point.energy) if point.energy is not None else "-",
        "; ".join(filter(None, [point.why, "made by an earlier run" if point.reused else ""])),
        " ".join(point.settings),
    )


def _with_interval(score: ScoreRecord | None) -> str:
    if score is None:
        return "-"
    return f"{quantity(score.value, score.unit)} ({interval(score.low, score.high, '')})"


def _placements(candidates: tuple[CandidateRecord, ...]) -> Trials:
    rows = [
        (
            (
                c.placement,
                "-" if c.speedup is None else f"{c.speedup:.2f} x",
                quantity(c.snr_db, "dB"),
                c.source,
                c.why or ("chosen" if c.chosen else ""),
            ),
            c.chosen,
        )
        for c in candidates[:ROWS]
    ]
    return Trials(
        title="Where integers are",
        about="Speed is against the optimised float model; signal to noise is of the outputs.",
        head=("Placement", "Speed", "Signal to noise", "Known by", "Why"),
        numeric=frozenset({1, 2}),
        rows=tuple(rows),
        left_out=max(0, len(candidates) - ROWS),
    )


def _returned(record: PrecisionRecord) -> Trials:
    rows = ((n.node, quantity(n.isolated_db, "dB"), n.why) for n in record.returned[:ROWS])
    kept = "" if record.kept else " Only the float model was accurate enough."
    return Trials(
        title="Operators returned to float",
        about=f"{record.measure}: {quantity(record.before, record.unit)} with everything in "
        f"integers, {quantity(record.after, record.unit)} without these, at least "
        f"{quantity(record.limit, record.unit)} allowed; {record.models} models were made.{kept}",
        head=("Operator", "Signal to noise alone", "Why"),
        numeric=frozenset({1}),
        rows=tuple((row, False) for row in rows),
        left_out=max(0, len(record.returned) - ROWS),
    )


def _pruned(record: PruningRecord) -> list[Trials]:
    divergence = "" if record.divergence is None else f", {digits(record.divergence)} found"
    sites = Trials(
        title="What was removed",
        about=f"Goal {record.goal}: {record.amount(record.before)} to "
        f"{record.amount(record.after)}, {record.source}. {record.options} options "
        f"were scored on {record.samples} samples that nothing was fitted to; divergence "
        f"{digits(record.predicted_divergence)} predicted{divergence}.",
        head=("What", "Left", "Divergence", "Saved"),
        numeric=frozenset({2, 3}),
        rows=tuple(
            (
                (s.name, s.left, digits(s.divergence), record.amount(s.saved)),
                False,
            )
            for s in record.sites[:ROWS]
        ),
        left_out=max(0, len(record.sites) - ROWS),
    )
    return [sites, *([_orders(record)] if record.orders else [])]


def _orders(record: PruningRecord) -> Trials:
    rows = [
        (
            (
                order.order or "nothing removed",
                "-" if order.figure is None else record.amount(order.figure),
                "-" if order.divergence is None else digits(order.divergence),
                order.why or ("kept" if order.kept else ""),
            ),
            order.kept,
        )
        for order in record.orders
    ]
    return Trials(
        title="Orders of pruning and quantizing",
        about="What each order led to, quantized.",
        head=("Order", "Goal", "Divergence", "Why"),
        numeric=frozenset({1, 2}),
        rows=tuple(rows),
    )
