"""The top of a page: what came out, what was asked for, and where that is from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.page.words import times
from graphopt.report.quantities import change, digits, interval, plural, quantity, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.report import FigureRecord, Report, ScoreRecord, SearchRecord

_NAMES = {"activation memory": "Memory", "size": "Size", "latency": "Latency", "energy": "Energy"}

_BETTER = {"activation memory": "smaller", "size": "smaller", "latency": "faster"}


@dataclass(frozen=True)
class Tile:
    """One quantity: before, after, what that amounts to, and how it is known."""

    name: str
    before: str
    after: str
    verdict: str
    source: str
    detail: str = ""
    basis: str = ""


def figures(report: Report, search: SearchRecord | None) -> list[Tile]:
    """Return the quantities of the result, accuracy first where it is known."""
    score = _judged(report, search)
    accuracy = _score(score) if score is not None else _kept(report)
    tiles = [accuracy] if accuracy is not None else []
    return tiles + [_tile(figure) for figure in report.figures]


def _judged(report: Report, search: SearchRecord | None) -> ScoreRecord | None:
    """Return how accurate the result is on validation samples, where that is known."""
    points = search.points if search is not None else ()
    scores = (p.score for p in points if p.chosen)
    validated = report.validation.score if report.validation is not None else None
    return next((score for score in scores if score is not None), validated)


def _tile(figure: FigureRecord) -> Tile:
    known = figure.low is not None and figure.high is not None
    span = interval(figure.low or 0.0, figure.high or 0.0, figure.unit) if known else ""
    better = times(figure.before, figure.after) if figure.after < figure.before else ""
    word = _BETTER.get(figure.name, "less")
    verdict = change(figure.before, figure.after)
    return Tile(
        name=_NAMES.get(figure.name, figure.name.capitalize()),
        before=quantity(figure.before, figure.unit),
        after=quantity(figure.after, figure.unit),
        verdict=", ".join(filter(None, [verdict, f"{better} {word}" if better else ""])),
        source=figure.source,
        detail=f"{span}, about 90 %" if span else "",
        basis=figure.basis,
    )


def _score(score: ScoreRecord) -> Tile:
    unit = score.unit
    lost = f"{digits(abs(score.drop))} {unit} {'lost' if score.drop > 0 else 'gained'}"
    return Tile(
        name=f"Accuracy: {score.metric}",
        before=quantity(score.value + score.drop, unit),
        after=quantity(score.value, unit),
        verdict=lost if score.drop else "the same",
        source="measured",
        detail=f"{interval(score.low, score.high, unit)}; lost between {digits(score.drop_low)} "
        f"and {quantity(score.drop_high, unit)}, 95 %",
        basis=f"{plural(score.samples, 'validation sample')}",
    )


def _kept(report: Report) -> Tile | None:
    """Return the accuracy that a compile without search knows of."""
    record = report.precision
    if record is not None:
        return Tile(
            name=f"Accuracy: {record.measure}",
            before=quantity(record.before, record.unit),
            after=quantity(record.after, record.unit),
            verdict=f"at least {quantity(record.limit, record.unit)} was asked for",
            source="measured",
            detail="before: everything in integers; after: with operators returned to float",
            basis=record.basis,
        )
    ratios = [p.snr_db for p in report.passes if p.snr_db is not None and p.status == "changed"]
    if not ratios:
        return None
    held = report.calibration.held_out if report.calibration is not None else 0
    return Tile(
        name="Accuracy: signal to noise",
        before="",
        after=quantity(ratios[-1], "dB"),
        verdict="of the outputs, against the original",
        source="measured",
        basis=plural(held, "held-out sample") if held else "probe inputs",
    )


def asked(report: Report, search: SearchRecord | None) -> list[tuple[str, str]]:
    """Return what the user asked for, as names and values."""
    found = [("Target", report.target)]
    if search is not None:
        found += [(f"--{name.lstrip('-')}", value) for name, value in search.budgets.items()]
        found += [("Effort", search.effort), ("Guaranteed", search.guarantee)]
    if search is None and report.validation is not None:
        found += [
            ("Largest drop", report.validation.stated),
            ("Guaranteed", report.validation.guarantee),
        ]
    found += [(f"limits.{name}", value) for name, value in _limits(report.recipe)]
    if report.pruning is not None:
        found.append(("Prune to", report.pruning.goal))
    return [(name, value) for name, value in found if value]


def _limits(recipe: str) -> Iterator[tuple[str, str]]:
    try:
        limits: dict[str, Any] = tomllib.loads(recipe).get("limits", {})
    except tomllib.TOMLDecodeError:
        return
    for name, value in limits.items():
        yield name, {True: "yes", False: "no"}.get(value, str(value))


def origins(report: Report, search: SearchRecord | None) -> list[tuple[str, str]]:
    """Return what the result was made of, with which versions, and where."""
    source, result, data = report.source, report.result, report.calibration
    machine = ", ".join(
        ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for value in report.machine.values()
    )
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    found = [
        ("Model", f"{source.path}: {plural(source.nodes, 'node')}, {source.parameters:,} "
         f"parameters, {size(source.size_bytes)}, opset {source.opset}, digest {source.digest}"),
        ("Result", f"{plural(result.nodes, 'node')}, {result.parameters:,} parameters, "
         f"{size(result.size_bytes)}, opset {result.opset}, digest {result.digest}"),
    ]  # fmt: skip
    if data is not None:
        held = f", {data.held_out:,} more held out" if data.held_out else ""
        found.append(
            ("Calibration", f"{plural(data.samples, 'sample')} of {data.origin}{held}, digest "
             f"{data.digest}{', ' + data.observer if data.observer else ''}")
        )  # fmt: skip
    if search is not None:
        found += _searched(search)
    elif report.validation is not None:
        judged = report.validation
        found.append(
            ("Validation", f"{plural(judged.samples, 'sample')} of {judged.origin}, none of which "
             f"was calibrated on ({judged.dropped} dropped), digest {judged.digest}")
        )  # fmt: skip
    return [
        *found,
        ("Machine", machine),
        ("Versions", f"graphopt {report.graphopt}, {versions}"),
        ("Time", f"{digits(search.seconds if search else report.seconds)} s"),
    ]


def _searched(search: SearchRecord) -> list[tuple[str, str]]:
    samples = f"{search.calibration_samples:,} to calibrate, {search.validation_samples:,} others"
    return [
        ("Samples", f"{samples} to validate"),
        ("Search", f"{plural(len(search.points), 'model')} by {plural(search.workers, 'worker')} "
         f"({search.executor}); ended: {search.stopped}"),
    ]  # fmt: skip
