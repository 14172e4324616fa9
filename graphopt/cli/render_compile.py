"""The summary of a compile: a report as lines of text, 80 columns wide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.progress import outcome
from graphopt.cli.render import table
from graphopt.cli.render_analyze import precision
from graphopt.cli.render_pruned import pruned
from graphopt.cli.render_recovery import recovered
from graphopt.cli.render_validation import validated
from graphopt.types import Effect

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graphopt.report import (
        CandidateRecord,
        FigureRecord,
        ModelFacts,
        OperatorRecord,
        PassRecord,
        Report,
    )

_NAMED = 3
"""So many nodes are named before the rest is only counted; -v names all."""

_HOW = {"float": "in float", "weight-only": "on packed weights"}


def summary(
    report: Report, sources: Sequence[str], written: Sequence[Path], *, verbose: bool = False
) -> list[str]:
    """Return what a compile did.

    Args:
        report: the facts.
        sources: what the recipe was put together from, lowest first: a preset, files, options.
        written: the files, in the order to name them; none when nothing was written.
        verbose: also options and checks of each pass, every operator, and every explanation.
    """
    blocks = [
        [_read(report.source), *_recipe(report, sources)],
        _passes(report.passes, verbose),
        pruned(report.pruning, verbose=verbose),
        recovered(report.recovery),
        _figures(report.figures),
        _candidates(report.candidates),
        census(report.operators, verbose=verbose),
        precision(report.precision),
        validated(report.validation),
        explanations(report, None) if verbose else [],
        _written(report, written),
    ]
    lines: list[str] = []
    for block in blocks:
        if block:
            lines += ["", *block] if lines else block
    return lines


def _read(model: ModelFacts) -> str:
    facts = (
        layout.plural(model.nodes, "node"),
        f"{layout.count(model.parameters)} parameters",
        layout.size(model.size_bytes),
        f"opset {model.opset}",
    )
    return layout.printable(f"Read {model.path}: {', '.join(facts)}")


def _recipe(report: Report, sources: Sequence[str]) -> list[str]:
    steps = layout.plural(len(report.passes), "step")
    parts = [f"Recipe {' + '.join(sources)}: {steps} for {report.target}"]
    data = report.calibration
    if data is None:
        parts.append("no data")
    else:
        parts.append(f"calibrated on {layout.plural(data.samples, 'sample')} of {data.origin}")
        if data.held_out:
            parts.append(f"{data.held_out:,} more held out to check")
    return layout.wrap("; ".join(parts), rest="  ")


def _passes(records: Sequence[PassRecord], verbose: bool) -> list[str]:
    shown = [r for r in records if verbose or not _is_idle(r)]
    name = max((len(r.name) for r in shown), default=0)
    room = layout.WIDTH - name - 4 - 10
    lines: list[str] = []
    for record in shown:
        first, *more = layout.wrap(outcome(record), width=max(room, 20))
        head = f"  {layout.printable(record.name):<{name}}  "
        lines.append(f"{head}{first:<{room}}{record.seconds:>8.1f} s")
        lines += [" " * len(head) + text for text in more]
        if verbose:
            lines += [" " * len(head) + text for text in _checks(record)]
    idle = [r for r in records if r not in shown]
    if idle:
        seconds = sum(r.seconds for r in idle)
        text = f"  {layout.plural(len(idle), 'pass', 'passes')} changed nothing"
        lines.append(f"{text:<{layout.WIDTH - 10}}{seconds:>8.1f} s")
    return lines


def _is_idle(record: PassRecord) -> bool:
    """Whether a pass had nothing to do; why a model was not quantized is worth a line, though."""
    return record.status == "unchanged" and record.effect == Effect.EXACT.value


def _checks(record: PassRecord) -> list[str]:
    facts = [f"{key} = {value}" for key, value in record.options.items()]
    facts += [f"{key}: {value:g}" for key, value in record.metrics.items()]
    if record.max_error is not None:
        facts.append(f"checked: max error {layout.digits(record.max_error)} of the largest output")
    if record.snr_db is not None:
        facts.append(f"checked: {layout.digits(record.snr_db)} dB signal to noise")
    return facts


def _figures(figures: Sequence[FigureRecord]) -> list[str]:
    if not figures:
        return []
    rows = [("", "before", "after", "", "")]
    for figure in figures:
        before = layout.quantity(figure.before, figure.unit)
        after = layout.quantity(figure.after, figure.unit)
        percent = layout.change(figure.before, figure.after)
        rows.append((figure.name, before, after, percent, _basis(figure)))
    return table(rows, right=(1, 2, 3))


def _basis(figure: FigureRecord) -> str:
    words = figure.source
    if figure.low is not None and figure.high is not None:
        words += f", {layout.interval(figure.low, figure.high, figure.unit)}"
    return f"{words}; {figure.basis}" if figure.basis else words


def _candidates(candidates: Sequence[CandidateRecord]) -> list[str]:
    if not candidates:
        return []
    rows = [("placements tried", "speed", "SNR", "")]
    for candidate in candidates:
        snr = "-" if candidate.snr_db is None else layout.quantity(candidate.snr_db, "dB")
        mark = "chosen, " if candidate.chosen else ""
        why = f"; {candidate.why}" if candidate.why else ""
        speed = "-" if candidate.speedup is None else f"{candidate.speedup:.2f} x"
        rows.append((candidate.placement, speed, snr, f"{mark}{candidate.source}{why}"))
    return table(rows, right=(1, 2))


def census(operators: Sequence[OperatorRecord], *, verbose: bool = False) -> list[str]:
    """Return how many heavy operators run in integer, and why the others do not."""
    if not operators:
        return []
    others = [o for o in operators if o.execution != "integer"]
    total = layout.plural(len(operators), "heavy operator")
    parts = [f"{len(operators) - len(others):,} of {total} run in integer"]
    packed = sum(o.execution == "weight-only" for o in others)
    if packed:
        parts.append(f"{packed:,} in float on packed weights")
    parts.append(f"{len(others) - packed:,} in float")
    lines = [", ".join(parts)]
    if verbose:
        rows = [(o.node, o.op, o.execution, o.kernel, o.reason or "") for o in operators]
        return lines + layout.columns(rows)
    reasons: dict[tuple[str, str], list[str]] = {}
    for operator in others:
        key = (operator.execution, operator.reason or "no reason recorded")
        reasons.setdefault(key, []).append(operator.node)
    for (execution, reason), nodes in reasons.items():
        named = ", ".join(f"`{n}`" for n in nodes[:_NAMED])
        rest = f" and {len(nodes) - _NAMED:,} more" if len(nodes) > _NAMED else ""
        text = f"{len(nodes):,} {_HOW[execution]}: {named}{rest}: {reason}"
        lines += layout.wrap(text, first="  ", rest="    ")
    return lines


def explanations(report: Report, nodes: Sequence[str] | None) -> list[str]:
    """Return the reasons recorded for ``nodes``; for all when None."""
    lines: list[str] = []
    for wanted in report.explanations:
        if nodes is None or wanted.node in nodes:
            text = f"`{wanted.node}` {wanted.by}: {wanted.reason}"
            lines += layout.wrap(text, rest="  ")
    known = {e.node for e in report.explanations}
    return lines + [f"`{n}`: no reason was recorded" for n in nodes or () if n not in known]


def _written(report: Report, written: Sequence[Path]) -> list[str]:
    if not written:
        return []
    names = ", ".join(str(path) for path in written)
    return [layout.printable(f"Wrote {names} in {report.seconds:.1f} s")]
