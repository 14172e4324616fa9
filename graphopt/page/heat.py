"""The heat map: how much noise each integer layer makes, by several measures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.report import LayerSensitivity, Report

ROWS = 120
_GOOD_DB, _BAD_DB, _STEPS = 45.0, 5.0, 8

_MEASURES: tuple[tuple[str, str, Callable[[LayerSensitivity], float | None]], ...] = (
    ("alone", "noise of this layer alone, all others in float", lambda n: n.isolated_db),
    ("alone, by channel", "mean over the channels of their own ratio",
     lambda n: n.isolated_channel_db),
    ("with all before", "noise here in the quantized model", lambda n: n.cumulative_db),
    ("with all before, by channel", "mean over the channels of their own ratio",
     lambda n: n.cumulative_channel_db),
    ("weights", "rounding of the weights alone", lambda n: n.facts.get("weight_snr_db")),
)  # fmt: skip


@dataclass(frozen=True)
class HeatRow:
    """One layer; ``cells`` are (text, heat from 0 to 8)."""

    node: str
    op: str
    cells: tuple[tuple[str, int], ...]
    why: str


@dataclass(frozen=True)
class Heat:
    """The map: measures as (name, meaning), worst layer first, and how many are not shown."""

    measures: tuple[tuple[str, str], ...]
    rows: tuple[HeatRow, ...]
    samples: int
    outputs: str
    left_out: int


def heat(report: Report) -> Heat | None:
    """Return the map of the layers whose noise was measured; None where none was."""
    record = report.sensitivity
    if record is None or not record.layers:
        return None
    used = [m for m in _MEASURES if any(m[2](n) is not None for n in record.layers)]
    rows = [
        HeatRow(n.node, n.op, tuple(_cell(value(n)) for _, _, value in used), n.why)
        for n in record.layers[:ROWS]
    ]
    return Heat(
        measures=tuple((name, meaning) for name, meaning, _ in used),
        rows=tuple(rows),
        samples=record.samples,
        outputs=", ".join(f"{name} {_cell(value)[0]} dB" for name, value in record.outputs.items()),
        left_out=max(0, len(record.layers) - ROWS),
    )


def _cell(value: float | None) -> tuple[str, int]:
    if value is None or math.isnan(value):
        return "-", 0
    if math.isinf(value):
        return ("∞", 0) if value > 0 else ("-∞", _STEPS)
    share = (_GOOD_DB - value) / (_GOOD_DB - _BAD_DB)
    return f"{value:.1f}", round(_STEPS * min(max(share, 0.0), 1.0))
