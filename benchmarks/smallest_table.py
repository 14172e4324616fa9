"""The table of the smallest models, from results/joint_smallest.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def smallest_table(results: Path) -> list[str]:
    """Return the Markdown lines of the smallest models; none where they were not looked for."""
    if not results.exists():
        return []
    content = json.loads(results.read_text())
    lines = [
        "",
        "The smallest within the same drop (`--pick smallest`), and the fastest stored as it is by "
        "default; sizes of files, what is lost on the half that the search had not seen:",
        "",
        "| model | smallest | times smaller | lost (95 %) | fastest, times smaller |",
        "|---|---|--:|---|--:|",
    ]
    lines += [_line(row) for row in content["rows"]]
    told = content["summary"]
    machine = content["machine"]
    return [
        *lines,
        "",
        f"Made on {machine['date']}. In the geometric mean the smallest is "
        f"{told['geomean_smaller_smallest']:.2f} times smaller, the fastest "
        f"{told['geomean_smaller_fastest']:.2f} times. "
        + (
            f"More than allowed was lost there by {', '.join(told['lost_more_than_allowed'])}. "
            if told["lost_more_than_allowed"]
            else ""
        )
        + "Script: `benchmarks/joint.py --smallest`.",
    ]


def _line(row: dict[str, Any]) -> str:
    made = row["smallest"]
    lost = f"{made['drop']:.2f}"
    if made["interval"]:
        lost += f" ({made['interval'][0]:.2f} to {made['interval'][1]:.2f})"
    elif made["drop"] == 0.0:
        lost = f"SNR {made['snr_db']:.0f} dB"
    return (
        f"| {row['model']} | {made['picked']} | {made['smaller']:.2f} x | {lost} "
        f"| {row['fastest']['smaller']:.2f} x |"
    )
