"""What analyze prints, and what compile prints of the operators that were returned to float."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphopt.cli import layout
from graphopt.cli.render import heading

if TYPE_CHECKING:
    from graphopt.report import LayerSensitivity, PrecisionRecord, QuantizationAnalysis

_NAME = 38
_RETURNED = 8


def analysis(result: QuantizationAnalysis, *, top: int, verbose: bool = False) -> list[str]:
    """Return the worst layers with their ratios and reasons, then what stayed in float.

    Args:
        result: the facts.
        top: so many layers are shown.
        verbose: all layers, and every fact that a reason rests on.
    """
    shown = result.layers if verbose else result.layers[:top]
    head = f"{'operator':<{_NAME}}  {'alone':>8}  {'by channel':>10}  {'in model':>8}"
    lines = [*_title(result), "", heading(head)]
    for layer in shown:
        lines += _row(layer)
        lines += layout.wrap(layer.why, first="    ", rest="    ")
        if verbose:
            lines += [f"      {key} = {value:.4g}" for key, value in layer.facts.items()]
    rest = len(result.layers) - len(shown)
    if rest > 0:
        lines.append(f"{layout.plural(rest, 'more operator')}: --top N shows more")
    return [*lines, *_floats(result)]


def _title(result: QuantizationAnalysis) -> list[str]:
    count = layout.plural(len(result.layers), "quantized operator")
    beside = f" against {result.reference}" if result.reference != result.model else ""
    text = (
        f"{result.model}{beside} for {result.target}: {count}, measured on "
        f"{layout.plural(result.samples, 'sample')} of {result.data}"
    )
    lines = layout.wrap(text, rest="  ")
    for name, snr in result.outputs.items():
        lines.append(layout.printable(f"  output `{name}`: {_db(snr)}"))
    return lines


def _row(layer: LayerSensitivity) -> list[str]:
    label = layout.printable(f"{layer.node} ({layer.op})")
    figures = (
        f"{_db(layer.isolated_db):>8}  {_db(layer.isolated_channel_db):>10}  "
        f"{_db(layer.cumulative_db):>8}"
    )
    if len(label) <= _NAME:
        return [f"{label:<{_NAME}}  {figures}"]
    return [label, f"{'':<{_NAME}}  {figures}"]


def _db(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "exact" if value > 0 else "lost"
    return f"{value:.1f} dB"


def _floats(result: QuantizationAnalysis) -> list[str]:
    if not result.floats:
        return []
    lines = ["", f"{layout.plural(len(result.floats), 'heavy operator')} not quantized"]
    reasons: dict[str, list[str]] = {}
    for node, why in result.floats.items():
        reasons.setdefault(why or "no reason is known", []).append(f"`{node}`")
    for why, nodes in reasons.items():
        more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
        lines += layout.wrap(f"{', '.join(nodes[:3])}{more}: {why}", first="  ", rest="    ")
    return lines


def precision(record: PrecisionRecord | None) -> list[str]:
    """Return what was done to keep the stated accuracy, for the summary of a compile."""
    if record is None:
        return []
    unit = f" {record.unit}" if record.unit else ""
    said = (
        f"{record.measure} was {record.before:.4g}{unit} with everything in integers, "
        f"{record.limit:.4g}{unit} wanted ({record.basis})"
    )
    lines = layout.wrap(said, rest="  ")
    models = layout.plural(record.models, "model")
    if not record.kept:
        return [*lines, f"everything stays in float: {models} checked, none was near enough"]
    count = layout.plural(len(record.returned), "operator")
    lines.append(f"{count} returned to float: now {record.after:.4g}{unit}; {models} checked")
    for operator in record.returned[:_RETURNED]:
        text = f"`{operator.node}` ({_db(operator.isolated_db)} alone): {operator.why}"
        lines += layout.wrap(text, first="  ", rest="    ")
    rest = len(record.returned) - _RETURNED
    return [*lines, f"  and {rest:,} more, in the report"] if rest > 0 else lines
