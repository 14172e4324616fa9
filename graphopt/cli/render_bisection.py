"""What diff prints of the pass and the node that made two models differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import table

if TYPE_CHECKING:
    from graphopt.report import Bisection, PartingRecord, PassRecord

_SHOWN = 6
"""Nodes and tensors that are listed; more are counted."""


def bisection_lines(found: Bisection) -> list[str]:
    """Return the passes that were run, the first that is wrong, and where its outputs part."""
    lines: list[str] = []
    told = [trace for trace in found.passes if trace.status != "unchanged"]
    if told:
        lines += ["", *table([("pass", "error"), *map(_row, told)], width=None)]
    elif found.passes:
        lines += ["", "no pass changes the model"]
    limit = f"{found.tolerance:.3g}"
    if found.guilty is not None:
        lines += ["", *layout.wrap(f"first pass that leaves the tolerance of {limit}:")]
        lines.append(f"  {layout.printable(found.guilty)}")
    if found.parting is None:
        says = "no single tensor is to blame" if found.guilty else f"all outputs agree to {limit}"
        return [*lines, "", says]
    return [*lines, "", *_parting(found.parting)]


def _row(trace: PassRecord) -> tuple[str, str]:
    if trace.max_error is not None:
        return trace.name, _error(trace.max_error)
    return trace.name, f"failed: {trace.reason}" if trace.reason else "not compared"


def _error(value: float) -> str:
    return layout.digits(value) if math.isfinite(value) else "other shape, type, or NaN"


def _parting(found: PartingRecord) -> list[str]:
    other = f", `{found.other}` in b" if found.other != found.tensor else ""
    lines = layout.wrap(f"first difference: `{found.tensor}`{other}", rest="  ")
    rows = [("relative error", _error(found.max_rel))]
    if found.place is not None and found.values is not None:
        place = ", ".join(map(str, found.place))
        one, another = (f"{value:.6g}" for value in found.values)
        rows.append(("largest at", f"[{place}]: {one} in a, {another} in b"))
    rows.append(("computed in a by", _some(found.nodes_a)))
    rows.append(("computed in b by", _some(found.nodes_b)))
    rows.append(("equal before it", _some(tuple(f"`{n}`" for n in found.agreed) or ("inputs",))))
    shapes = ", ".join(f"{name} {layout.shape(shape)}" for name, shape in found.shapes.items())
    rows.append(("shown by input", f"{found.sample + 1}: {shapes}"))
    rows.append(("compared", layout.plural(found.compared, "tensor")))
    if found.optimized:
        rows.append(("note", "both are equal until the runtime optimises them"))
    return lines + layout.columns(rows)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
