"""Write the measured table of the README from benchmarks/results/*.json.

Usage: python benchmarks/readme_table.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
METRICS = {
    "top1": "top-1 {before:.2f} % to {after:.2f} %",
    "next_token": "next token {before:.2f} % to {after:.2f} %",
    "psnr_db": "PSNR {before:.2f} to {after:.2f} dB",
    "si_sdr_db": "SI-SDR {before:.2f} to {after:.2f} dB",
}


def read(name: str) -> dict[str, Any]:
    """Return one result file."""
    return dict(json.loads((HERE / "results" / f"{name}.json").read_text()))


def quality(model: str, scores: list[dict[str, Any]]) -> str:
    """Say what the compiled model is worth on the host."""
    wanted = "dtln (both models)" if model.startswith("dtln") else model
    row = next(r for r in scores if r["model"] == wanted and r["target"] == "host")
    if "metric" in row:
        text = METRICS[row["metric"]].format(**row)
        return text + (" (the pair)" if wanted != model else "")
    return "exact" if row["snr_db"] > 100 else f"SNR {row['snr_db']:.1f} dB"


def table() -> str:
    """Return the Markdown between the markers."""
    speed, accuracy, cost = read("speed"), read("accuracy"), read("compile_cost")
    costs = {row["model"]: row for row in cost["rows"]}
    lines = [
        "| model | fp32 | speed | against `quantize_static` | size | quality | compile |",
        "|---|--:|--:|--:|--:|---|--:|",
    ]
    for row in speed["rows"]:
        peer = f"{row['against_peer']:.2f} x" if "against_peer" in row else "it fails"
        spent = costs.get(row["model"], {})
        lines.append(
            f"| {row['model']} | {row['fp32_ms']:.2f} ms | {row['graphopt']:.2f} x | {peer} "
            f"| {row['size_ratio']:.2f} x | {quality(row['model'], accuracy['rows'])} "
            f"| {spent.get('graphopt_s', 0):.1f} s |"
        )
    summary, machine = speed["summary"], speed["machine"]
    lines += [
        "",
        f"Measured on {machine['date']}: {machine['processor']}, "
        f"{'with' if machine['avx512_vnni'] else 'without'} AVX-512 VNNI, "
        f"{machine['cores']} shared cores, one thread, batch 1, "
        f"onnxruntime {machine['versions']['onnxruntime']}; interleaved, medians. Geometric mean "
        f"{summary['geomean_against_fp32']:.2f} x the original and "
        f"{summary['geomean_against_peer']:.2f} x `quantize_static` (u8s8 per channel, after its "
        "pre-processing) where that works. Quality is on labelled data that was not calibrated on, "
        "or SNR against the original where there are no labels; it is from compiles of its own, "
        "and two compiles for a host may choose different placements. "
        "Scripts: `benchmarks/speed.py`, "
        "`accuracy.py`, `compile_cost.py`.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Rewrite the README between the markers, or check that nothing would change."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    written = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        sys.exit(0 if written == text else "README.md is not what benchmarks/results say")
    README.write_text(written)


if __name__ == "__main__":
    main()
