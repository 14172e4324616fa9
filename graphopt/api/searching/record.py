"""The record of a search, and the report of the model that it picked."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.compiled import Compiled
from graphopt.pipeline.validation import validation_record
from graphopt.planner.joint import Point, front_of
from graphopt.report import FigureRecord, PointRecord, SearchRecord
from graphopt.report.stored import read_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.api.searching.asked import Asked
    from graphopt.api.searching.choice import Choice
    from graphopt.api.searching.ground import Ground
    from graphopt.planner.joint import Made, Store
    from graphopt.report import Report, ValidationRecord
    from graphopt.workers import Crew

_KEY = 8
"""Digits of a key that are shown."""


def record_of(
    ground: Ground, asked: Asked, choice: Choice, chosen: Made, crew: Crew, started: float
) -> SearchRecord:
    """Return everything that was tried, the chosen model first among its equals."""
    budgets = asked.budgets.stated
    if ground.limit is not None:
        budgets = {"max-drop": str(ground.limit), **budgets}
    made = choice.made()
    judged = choice.judged()
    holding = [m for m in judged if choice.holds(m)]
    front = {p.made.digest for p in front_of([Point.of(m) for m in holding])}
    first = {m.digest: m for m in (*judged, chosen)}
    points = tuple(_point(m, choice, front, first, chosen) for m in made)
    late = choice.foreman.stopped
    return SearchRecord(
        budgets=budgets,
        effort=asked.effort.name,
        guarantee=ground.guard.guarantee(chosen.score),
        calibration_samples=ground.guard.calibration_samples,
        validation_samples=ground.guard.total,
        original=_original(ground, choice),
        points=points,
        stopped="the time was up" if late else "nothing was left to try",
        workers=crew.workers,
        executor=crew.executor,
        seconds=time.perf_counter() - started,
    )


def compiled_of(
    ground: Ground, store: Store, choice: Choice, chosen: Made, record: SearchRecord
) -> Compiled:
    """Return the model that was picked, with the report of its compile as the search knows it."""
    report = read_report(chosen.report)
    graph = ir.load(store.path(chosen.digest))
    return Compiled(
        graph,
        dataclasses.replace(
            report,
            source=ground.facts,
            figures=_figures(report, ground, choice, chosen),
            validation=_validation(ground, chosen),
            notices=(*report.notices, *ground.notices),
            seconds=record.seconds,
        ),
        ir.source_files(ground.graph),
    )


def _validation(ground: Ground, chosen: Made) -> ValidationRecord | None:
    return None if chosen.score is None else validation_record(ground.guard, chosen.score)


def _figures(
    report: Report, ground: Ground, choice: Choice, chosen: Made
) -> tuple[FigureRecord, ...]:
    """Return the figures of a report, with the latency that was measured where it was."""
    speedup = choice.speedups.get(chosen.digest)
    if speedup is None or chosen.figures is None:
        return report.figures
    before = choice.original.latency_ms
    timed = FigureRecord(
        "latency",
        "ms",
        before,
        before / speedup,
        "measured",
        f"host, one thread, finalists of the search interleaved; {speedup:.2f}x the original's "
        "speed by lower quartiles",
    )
    return tuple(timed if f.name == "latency" else f for f in report.figures)


def _original(ground: Ground, choice: Choice) -> PointRecord:
    figures = choice.original
    return PointRecord(
        "",
        "original",
        (),
        "front",
        score=ground.guard.original.record,
        latency_ms=figures.latency_ms,
        latency_source="measured" if choice.speedups else "estimated",
        speedup=1.0,
        size_bytes=figures.size_bytes,
        ram_bytes=figures.ram_bytes,
        energy=figures.energy,
    )


def _point(
    made: Made, choice: Choice, front: set[str], first: Mapping[str, Made], chosen: Made
) -> PointRecord:
    same = first.get(made.digest, made)
    if made.digest and same.key != made.key:
        status, why = "dominated", f"the same model as `{same.candidate.label}`"
    else:
        status, why = _status(made, choice, front)
    figures = made.figures
    base = choice.original.latency_ms
    return PointRecord(
        key=made.key[:_KEY],
        label=made.candidate.label,
        settings=made.candidate.overrides,
        status=status,
        score=made.score,
        latency_ms=figures.latency_ms if figures else None,
        latency_source="measured" if made.digest in choice.speedups else "estimated",
        speedup=base / figures.latency_ms if figures and figures.latency_ms else None,
        size_bytes=figures.size_bytes if figures else None,
        ram_bytes=figures.ram_bytes if figures else None,
        energy=figures.energy if figures else None,
        seconds=made.seconds,
        file=f"models/{choice.store.path(made.digest).name}" if made.digest else None,
        chosen=bool(made.digest) and made.key == chosen.key,
        why=why,
        reused=made.reused,
    )


def _status(made: Made, choice: Choice, front: set[str]) -> tuple[str, str]:
    """Return what became of a candidate, and why."""
    if made.fault or made.score is None:
        return "failed", made.fault
    score = made.score
    unit = f" {score.unit}" if score.unit else ""
    if score.samples < choice.ground.guard.total:
        return "stopped early", (
            f"loses at least {score.drop_low:.3g}{unit} on {score.samples} samples"
        )
    if not choice.wanted.is_accurate(made):
        allowed = f"{choice.wanted.max_drop:.3g} allowed"
        if score.expected is not None and score.expected > score.drop:
            return "too lossy", (
                f"loses {score.drop:.3g}{unit} here, {score.expected:.3g} are expected, {allowed}"
            )
        return "too lossy", f"loses {score.drop:.3g}{unit}, {allowed}"
    excesses = choice.excesses(made)
    if excesses:
        told = [f"{n.replace('_', '-')} by {100 * (e - 1):.0f} %" for n, e in excesses.items()]
        return "over budget", "exceeds " + ", ".join(told)
    return ("front", "") if made.digest in front else ("dominated", "another is better in all")
