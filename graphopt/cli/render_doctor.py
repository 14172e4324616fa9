"""What doctor prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import heading
from graphopt.errors import CODES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from graphopt.api.diagnosis import Diagnosis, DoctorFinding, Repaired

_SHOWN = 3
"""Findings of one code that are listed without -v."""


def diagnosis(found: Diagnosis, written: Sequence[Path], *, fix: bool, verbose: bool) -> list[str]:
    """Return the diagnosis: how the model runs, the findings by code, what repairing gives."""
    lines = [heading(f"{layout.printable(found.model)} on {found.target}"), *_state(found)]
    groups: dict[str, list[DoctorFinding]] = {}
    for each in found.findings:
        groups.setdefault(each.code, []).append(each)
    ordered = sorted(groups.items(), key=lambda item: (-_cost(item[1]), item[0]))
    for code, members in ordered:
        lines += ["", *_group(code, members, verbose=verbose)]
    if found.repaired is not None:
        lines += ["", *_repairs(found, found.repaired)]
    return [*lines, "", *_conclusion(found, written, fix=fix)]


def _state(found: Diagnosis) -> list[str]:
    if not found.quantized:
        return layout.wrap("not quantized: every operator is meant to run in float", first="  ")
    rows = []
    if found.failure:
        rows.append(("does not run", found.failure))
    elif found.operators:
        integer = sum(o.execution == "integer" for o in found.operators)
        total = len(found.operators)
        rows.append(("heavy operators", f"{integer} of {total} executed in integer"))
        rows.append(("Q and DQ", f"{found.converters} executed, beside the operators"))
    latency = found.estimated_ms
    bounds = layout.interval(latency.low, latency.high, "ms")
    rows.append(("latency", f"{layout.quantity(latency.value, 'ms')} estimated ({bounds})"))
    if found.at_risk:
        products = layout.plural(found.at_risk, "product")
        rows.append(("without VNNI", f"{products} could saturate 16 bits (x86-avx2)"))
    return layout.columns(rows)


def _cost(members: Sequence[DoctorFinding]) -> float:
    return sum(m.cost_ms or 0.0 for m in members)


def _group(code: str, members: Sequence[DoctorFinding], *, verbose: bool) -> list[str]:
    """Return the findings of one code: the rule and the remedy once, the places in a list."""
    cost = _cost(members)
    price = f", {layout.quantity(cost, 'ms')} estimated" if cost else ""
    mended = sum(m.fixable for m in members)
    fixable = "" if not mended else " (--fix)" if mended == len(members) else f" ({mended}: --fix)"
    title = f"{code}: {CODES[code]}: {layout.plural(len(members), 'place')}{price}{fixable}"
    lines = layout.wrap(title)
    shown = members if verbose else members[:_SHOWN]
    for each in shown:
        lines += layout.wrap(f"{each.op} `{each.node}`: {each.what}", first="  ", rest="    ")
    if len(shown) < len(members):
        lines.append(f"  {len(members) - len(shown)} more; -v lists all")
    for why in dict.fromkeys(m.why for m in shown):
        lines += layout.wrap(f"why: {why}", first="  ", rest="    ")
    for remedy in dict.fromkeys(m.remedy for m in shown):
        lines += layout.wrap(f"remedy: {remedy}", first="  ", rest="    ")
    return lines


def _repairs(found: Diagnosis, repaired: Repaired) -> list[str]:
    lines = ["Exact repairs:"]
    lines += layout.columns([(f"{n} x", what) for what, n in repaired.repairs.items()], right=(0,))
    total = len(found.operators) or repaired.integer
    rows = [("heavy operators", f"{repaired.integer} of {total} in integer")]
    rows.append(("Q and DQ", f"{repaired.converters} executed"))
    rows.append(("latency", f"{layout.quantity(repaired.estimated_ms.value, 'ms')} estimated"))
    timed = repaired.measured
    if timed is not None:
        speed = f"{timed.ratio:.2f} x the speed ({timed.low:.2f} to {timed.high:.2f})"
        change = f"{layout.digits(timed.before_ms)} to {layout.quantity(timed.after_ms, 'ms')}"
        rows.append(("", f"{change} measured in turns on this machine: {speed}"))
    if repaired.snr_db is not None:
        error = layout.digits(repaired.max_error or 0.0)
        snr = "equal" if not repaired.max_error else layout.quantity(repaired.snr_db, "dB")
        rows.append(("outputs", f"{snr}, relative error {error}, against the unoptimised original"))
    return lines + layout.columns(rows)


def _conclusion(found: Diagnosis, written: Sequence[Path], *, fix: bool) -> list[str]:
    if not found.quantized:
        return layout.wrap("There is nothing to diagnose. `graphopt compile --data` quantizes it.")
    if written:
        names = ", ".join(str(p) for p in written)
        lines = layout.wrap(f"Wrote {names}")
        timed = found.repaired.measured if found.repaired is not None else None
        if timed is not None and timed.is_below(0.97):
            lines += layout.wrap(
                "It is slower here than before: integer kernels of this size do not pay. "
                "`graphopt compile --data` chooses by the clock."
            )
        return lines
    if found.repaired is not None and not fix:
        return layout.wrap("`--fix` writes the repaired model. `graphopt explain CODE` says more.")
    if not found.findings:
        return ["Nothing is wrong with it."]
    return layout.wrap("Nothing can be repaired exactly. `graphopt explain CODE` says more.")
