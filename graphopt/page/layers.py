"""The table of layers: what each was, what it became, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.page.words import microseconds, precision_class
from graphopt.report.quantities import digits, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.report import LayerRecord, Report

ROWS = 300
"""So many layers are shown: those that take the most time, in order of execution."""


@dataclass(frozen=True)
class LayerRow:
    """One line of the table; ``width_...`` are percent of the slowest layer."""

    node: str
    op: str
    kernels_before: str
    kernels_after: str
    precision_before: str
    precision_after: str
    class_before: str
    class_after: str
    channels: str
    pruned: bool
    snr: str
    before: str
    after: str
    width_before: int
    width_after: int
    why: str


@dataclass(frozen=True)
class LayerTable:
    """The rows, the totals of all layers, and how many are not shown."""

    rows: tuple[LayerRow, ...]
    before: str
    after: str
    left_out: int
    has_snr: bool


def layer_table(report: Report) -> LayerTable | None:
    """Return the table; None where the report has no layers."""
    layers = _joined(report.layers)
    if not layers:
        return None
    slowest = max(max(n.latency_before_us, n.latency_after_us) for n in layers)
    by_time = sorted(layers, key=lambda n: -(n.latency_before_us + n.latency_after_us))
    kept = {id(n) for n in by_time[:ROWS]}
    return LayerTable(
        rows=tuple(_row(n, slowest or 1.0) for n in layers if id(n) in kept),
        before=microseconds(sum(n.latency_before_us for n in layers)),
        after=microseconds(sum(n.latency_after_us for n in layers)),
        left_out=max(0, len(layers) - ROWS),
        has_snr=any(n.snr_db is not None for n in layers),
    )


def _joined(layers: Sequence[LayerRecord]) -> list[LayerRecord]:
    """Return the layers, with the copies between layouts of each kind as one."""
    copies: dict[tuple[str, bool], list[LayerRecord]] = {}
    found = []
    for layer in layers:
        if layer.node:
            found.append(layer)
        else:
            copies.setdefault((layer.op, bool(layer.kernel_before)), []).append(layer)
    return found + [_sum(group) for group in copies.values()]


def _sum(group: Sequence[LayerRecord]) -> LayerRecord:
    import dataclasses

    return dataclasses.replace(
        group[0],
        node=f"({plural(len(group), 'copy', 'copies')} between layouts)",
        latency_before_us=sum(n.latency_before_us for n in group),
        latency_after_us=sum(n.latency_after_us for n in group),
    )


def _row(layer: LayerRecord, slowest: float) -> LayerRow:
    before, after = layer.kernel_before or "none", layer.kernel_after or "none"
    return LayerRow(
        node=layer.node,
        op=layer.op,
        kernels_before=before,
        kernels_after=after if after != before else "",
        precision_before=layer.precision_before or ("new" if layer.precision_after else ""),
        precision_after=layer.precision_after or "gone",
        class_before=precision_class(layer.precision_before),
        class_after=precision_class(layer.precision_after),
        channels=_channels(layer),
        pruned=_is_pruned(layer),
        snr="-" if layer.snr_db is None else digits(layer.snr_db),
        before=microseconds(layer.latency_before_us),
        after=microseconds(layer.latency_after_us),
        width_before=round(100 * layer.latency_before_us / slowest),
        width_after=round(100 * layer.latency_after_us / slowest),
        why=layer.why,
    )


def _channels(layer: LayerRecord) -> str:
    before, after = layer.channels_before, layer.channels_after
    if before is None and after is None:
        return "-"
    if before == after or after is None or before is None:
        return str(after if before is None else before)
    return f"{before} → {after}"


def _is_pruned(layer: LayerRecord) -> bool:
    before, after = layer.channels_before, layer.channels_after
    return before is not None and after is not None and after < before
