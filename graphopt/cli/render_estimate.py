"""What `graphopt estimate` prints."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.estimates import Estimates, MemoryFacts, TargetEstimate, WhatIf
    from graphopt.cost.base import Estimate, KernelCost
    from graphopt.cost.planning import Fit
    from graphopt.types import Figure

_COSTLIEST = 10
"""So many kernels are listed without -v."""

_QUESTIONS = {
    "int8": "every operator in int8 that can be",
    "pruned": "a quarter fewer channels everywhere",
}


def estimate_lines(found: Estimates, *, verbose: bool, width: int | None) -> list[str]:
    """Return one target in detail, or a line for each of several; and the other model beside it."""
    if len(found.rows) == 1:
        lines = _one(found.rows[0], verbose=verbose, width=width)
    else:
        lines = _several(found.rows)
        if verbose:
            for row in found.rows:
                lines += ["", *_one(row, verbose=True, width=width)]
    if found.compared:
        lines += ["", *_comparison(found)]
    return lines


def _one(row: TargetEstimate, *, verbose: bool, width: int | None) -> list[str]:
    estimate = row.estimate
    latency = estimate.latency_ms
    rows = [
        ("latency", layout.quantity(latency.value, "ms"), _interval(latency, "ms")),
        (
            "peak activations",
            layout.size(estimate.peak_activation_bytes),
            f"at `{estimate.peak_at}`",
        ),
        ("weights", layout.size(estimate.weight_bytes), ""),
        ("file", layout.size(estimate.size_bytes), ""),
    ]
    if estimate.energy_mj is not None:
        energy = layout.quantity(estimate.energy_mj.value, "mJ")
        rows.append(("energy", energy, _interval(estimate.energy_mj, "mJ")))
    rows.append(("multiply-accumulates", layout.count(estimate.macs).strip(), ""))
    rows.insert(2, ("planned", layout.size(row.memory.planned_bytes), _plan(row.memory)))
    lines = [f"One inference on {row.target}, batch 1"]
    lines += layout.columns(rows, right=(1,))
    lines += _verdict(row.memory.fit)
    if row.what_if:
        lines += ["", *_what_if(row.what_if, estimate)]
    return [*lines, "", *_kernels(estimate.kernels, verbose=verbose, width=width)]


def _plan(memory: MemoryFacts) -> str:
    """Say how good the plan of the activations is."""
    above = memory.planned_bytes / memory.lower_bound - 1 if memory.lower_bound else 0.0
    if memory.is_optimal:
        text = "no order and no placement need less"
    elif above == 0:
        text = "the lower bound of this order"
    else:
        text = f"{100 * above:.1f} % above the lower bound of this order"
    given = layout.size(memory.given_bytes)
    return f"{text}; the file's order needs {given}" if memory.reordered else text


def _verdict(fit: Fit) -> list[str]:
    """Say whether the model fits, where there is a limit, and what stands in the way."""
    lines: list[str] = []
    for what, needed, limit in (
        ("RAM", fit.ram_bytes, fit.ram_limit),
        ("flash", fit.flash_bytes, fit.flash_limit),
    ):
        if limit is not None:
            verdict = "fits into" if needed <= limit else "does not fit into"
            lines.append(f"  {verdict} {layout.size(limit)} of {what}: {layout.size(needed)}")
    for step, nbytes in fit.crowded:
        lines.append(f"    {layout.size(nbytes)} at `{layout.printable(step)}`")
    if fit.hopeless:
        lines.append("    that operator alone needs more: no order of operators can help")
    return ["", *lines] if lines else []


def _what_if(answers: Sequence[WhatIf], base: Estimate) -> list[str]:
    rows = [("what if", "speed", "latency", "peak", "file", "")]
    for answer in answers:
        made = answer.estimate
        rows.append(
            (
                answer.change,
                f"{answer.times_faster:.2f} x",
                layout.quantity(made.latency_ms.value, "ms"),
                layout.change(base.peak_activation_bytes, made.peak_activation_bytes),
                layout.change(base.size_bytes, made.size_bytes),
                _QUESTIONS[answer.change],
            )
        )
    return table(rows, right=(1, 2, 3, 4), width=layout.WIDTH)


def _several(rows: Sequence[TargetEstimate]) -> list[str]:
    """Return a line per target, and below what the figures of each rest on."""
    cells = [("target", "latency", "90 % interval", "RAM", "energy", "int8", "pruned")]
    for row in rows:
        latency = row.estimate.latency_ms
        energy = row.estimate.energy_mj
        faster = {answer.change: f"{answer.times_faster:.2f} x" for answer in row.what_if}
        cells.append(
            (
                row.target,
                layout.quantity(latency.value, "ms"),
                layout.interval(latency.low, latency.high, "ms"),
                layout.size(row.memory.planned_bytes) + ("" if row.memory.fit.fits else " !"),
                "-" if energy is None else layout.quantity(energy.value, "mJ"),
                faster.get("int8", "-"),
                faster.get("pruned", "-"),
            )
        )
    lines = [f"One inference of {layout.printable(rows[0].model)}, batch 1"]
    lines += table(cells, right=(1, 2, 3, 4, 5, 6), width=None)
    if any(row.what_if for row in rows):
        questions = "; ".join(f"{name}: {what}" for name, what in _QUESTIONS.items())
        lines += layout.wrap(
            f"estimated speed of what was not made: {questions}", first="  ", rest="  "
        )
    for row in rows:
        if not row.memory.fit.fits:
            lines += [f"  {row.target}:", *_verdict(row.memory.fit)[1:]]
    basis = [(row.target, row.estimate.latency_ms.basis) for row in rows]
    return [*lines, "", *layout.columns(basis)]


def _comparison(found: Estimates) -> list[str]:
    """Return both models on every target; with one target also the difference by kernel class."""
    names = [PurePath(rows[0].model).name for rows in (found.rows, found.compared)]
    cells = [("target", *names, "speed", "file")]
    for first, second in zip(found.rows, found.compared, strict=True):
        old, new = first.estimate.latency_ms.value, second.estimate.latency_ms.value
        cells.append(
            (
                first.target,
                layout.quantity(old, "ms"),
                layout.quantity(new, "ms"),
                f"{old / new:.2f} x" if new else "-",
                layout.change(first.estimate.size_bytes, second.estimate.size_bytes),
            )
        )
    lines = table(cells, right=(1, 2, 3, 4), width=None)
    if len(found.rows) == 1:
        lines += ["", *_by_class(found.rows[0].estimate, found.compared[0].estimate)]
    return lines


def _by_class(first: Estimate, second: Estimate) -> list[str]:
    times = [_class_times(estimate) for estimate in (first, second)]
    keys = sorted({**times[0], **times[1]}, key=lambda key: -max(t[key] for t in times))
    cells = [("class", "us", "us", "change")]
    cells += [
        (
            key,
            layout.digits(times[0][key]),
            layout.digits(times[1][key]),
            layout.change(times[0][key], times[1][key]) or "new",
        )
        for key in keys
    ]
    return table(cells, right=(1, 2, 3), width=None)


def _class_times(estimate: Estimate) -> dict[str, float]:
    times: dict[str, float] = defaultdict(float)
    for kernel in estimate.kernels:
        times[f"{kernel.dtype} {kernel.kind}"] += kernel.latency_us
    return times


def _interval(figure: Figure, unit: str) -> str:
    return f"{figure.source}, {layout.interval(figure.low, figure.high, unit)}; {figure.basis}"


def _kernels(kernels: Sequence[KernelCost], *, verbose: bool, width: int | None) -> list[str]:
    ordered = sorted(kernels, key=lambda k: -k.latency_us)
    shown = ordered if verbose else ordered[:_COSTLIEST]
    total = sum(k.latency_us for k in kernels) or 1.0
    rows = [("us", "share", "kernel", "type", "nodes")]
    rows += [
        (
            layout.digits(k.latency_us),
            f"{100 * k.latency_us / total:.0f} %",
            k.kernel,
            k.dtype,
            _nodes(k.nodes),
        )
        for k in shown
    ]
    lines = table(rows, right=(0, 1), width=width)
    if len(shown) < len(ordered):
        rest = sum(k.latency_us for k in ordered[_COSTLIEST:])
        left = layout.plural(len(ordered) - len(shown), "more kernel")
        lines.append(f"  {left}, {100 * rest / total:.0f} %; -v lists all")
    return lines


def _nodes(nodes: Sequence[str]) -> str:
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more" if nodes else ""
