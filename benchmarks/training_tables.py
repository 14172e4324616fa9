"""The measured tables of training-recovery.md, from results/*.json; readme_table.py writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def training_tables(results: Path) -> str:
    """Return the Markdown of what training without labels reaches, as far as it was measured."""
    parts = [
        make(json.loads((results / f"{name}.json").read_text()))
        for name, make in (
            ("training", _recovered),
            ("recovery_orders", _orders),
            ("training_size", _smallest),
        )
        if (results / f"{name}.json").exists()
    ]
    return "\n\n".join(parts) or "Nothing was measured yet."


def _recovered(result: dict[str, Any]) -> str:
    lines = []
    for model, record in result["models"].items():
        has_tokens = any("cross_entropy" in row for row in record["summary"].values())
        lines += [
            f"**{model}**: {record['samples']:,} unlabelled samples"
            + (f", {record['times']:g} times fewer multiply-accumulates" * bool(record["times"])),
            "",
            f"| model | {'next token' if has_tokens else 'top-1'} "
            f"| {'nats' if has_tokens else 'agrees with fp32'} | minutes | MB | asked |",
            "|---|--:|--:|--:|--:|---|",
            *(_recovered_line(n, row, has_tokens) for n, row in record["summary"].items()),
            "",
        ]
    return "\n".join(
        [
            *lines,
            f"{_measured_on(result['machine'])}. Means over the seeds, where something is trained, "
            "with half of the 95 % interval over them; minutes and MB are of the whole compile, "
            "pruning included. Script: `benchmarks/training.py`.",
        ]
    )


def _recovered_line(name: str, row: dict[str, Any], has_tokens: bool) -> str:
    figure, places = ("cross_entropy", 4) if has_tokens else ("agreement", 3)
    cells = [
        name,
        f"{row['score']:.2f} %" + _over_seeds(row, "score", 2),
        f"{row[figure]:.{places}f}" + _over_seeds(row, figure, places) if figure in row else "",
        f"{row['minutes']:.1f}" if "minutes" in row else "",
        f"{row['peak_mb']:.0f}" if "peak_mb" in row else "",
        _asked(row.get("bars", {})),
    ]
    return f"| {' | '.join(cells)} |"


def _over_seeds(row: dict[str, Any], figure: str, places: int) -> str:
    half = row.get(f"{figure}_over_seeds")
    return "" if half is None else f" ± {half:.{places}f}"


def _asked(bars: dict[str, bool]) -> str:
    return "; ".join(f"{text}: {'yes' if holds else '**no**'}" for text, holds in bars.items())


def _measured_on(machine: dict[str, Any]) -> str:
    return (
        f"Measured on {machine['date']}: {machine['processor']}, {machine['cores']} shared cores, "
        f"onnxruntime {machine['versions']['onnxruntime']}"
    )


def _orders(result: dict[str, Any]) -> str:
    lines = []
    for model, record in result["models"].items():
        lines += [
            f"**{model}**, {record['minutes']:g} minutes of training in each order"
            + ("; the machine was disturbed" * bool(record.get("disturbed"))),
            "",
            "| model | top-1 | lost (95 %) | smaller | speed (minima) | compile, minutes |",
            "|---|--:|--:|--:|--:|--:|",
            *(_order_line(n, row) for n, row in record["rows"].items() if "failed" not in row),
            "",
        ]
        failed = {n: row["failed"] for n, row in record["rows"].items() if "failed" in row}
        lines += [f"Not made: {'; '.join(failed)}.", ""] if failed else []
    return "\n".join(
        [
            *lines,
            f"{_measured_on(result['machine'])}; all models of a table interleaved in one process, "
            "one thread, batch 1, medians of ratios to fp32. PtQ prunes and then quantizes, QtP "
            "quantizes and then prunes, QAP prunes while the quantized model is trained, joint "
            "learns widths and bits together; the number is how many times fewer "
            "multiply-accumulates are left. Script: `benchmarks/recovery_orders.py`.",
        ]
    )


def _order_line(name: str, row: dict[str, Any]) -> str:
    lost = f"{row['drop']:.2f}"
    if row.get("interval"):
        lost += f" ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})"
    speed = f"{row['speed']:.2f} x ({row['speed_minima']:.2f})" if "speed" in row else ""
    smaller = f"{row['smaller']:.0%}" if "smaller" in row else ""
    minutes = f"{row['minutes']:.1f}" if "minutes" in row else ""
    return f"| {name} | {row['score']:.2f} % | {lost} | {smaller} | {speed} | {minutes} |"


def _smallest(result: dict[str, Any]) -> str:
    lines = ["| classifier | chosen | smaller | lost (95 %) | asked |", "|---|---|--:|--:|---|"]
    for model, record in result["models"].items():
        row = record["rows"].get(record["chosen"])
        if row is None:
            lines.append(f"| {model} | none | | | {_asked(record['bars'])} |")
            continue
        lost = f"{row['lost']:.2f} ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})"
        asked = _asked(record["bars"])
        lines.append(f"| {model} | {record['chosen']} | {row['smaller']:.1%} | {lost} | {asked} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{_measured_on(result['machine'])}. The share of the parameters that is kept, and the "
            "bits of a weight in the file, are chosen on every other labelled sample; points lost "
            "are of the others. Script: `benchmarks/training_size.py`.",
        ]
    )
