"""Time and peak memory of a compile, against quant_pre_process + quantize_static.

Each run is a process of its own, start to exit, imports included: what a user waits for. The two
tools alternate; the figure is the median of the rounds.

    python benchmarks/compile_cost.py [--rounds 3] [MODEL…]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe
from workloads import workloads

HERE = Path(__file__).parent
PEER = HERE / "peers" / "ort_u8s8_per_channel.py"
RESULTS = HERE / "results" / "compile_cost.json"


def measured(command: list[str], folder: Path) -> tuple[float, float] | None:
    """Return (seconds, peak RSS in MB) of a process; None when it fails."""
    environment = {**os.environ, "GRAPHOPT_CACHE": ""}
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, cwd=folder
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    return (seconds, usage.ru_maxrss / 1024) if process.returncode == 0 else None


def commands(model: Path, data: Path, folder: Path) -> dict[str, list[str]]:
    """Return what each tool's user would run."""
    return {
        "graphopt": [
            sys.executable, "-m", "graphopt", "compile", str(model), "--data", str(data),
            "-o", str(folder / "ours.onnx"),
        ],
        "quantize_static": [
            sys.executable, str(PEER), str(model), str(data),
            str(folder / "peer.onnx"),
        ],
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for workload in workloads(arguments.models):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            data = workload.write_calibration(folder)
            runs: dict[str, list[tuple[float, float]]] = {"graphopt": [], "quantize_static": []}
            for _ in range(arguments.rounds):
                for tool, command in commands(workload.path, data, folder).items():
                    found = measured(command, folder)
                    if found is not None:
                        runs[tool].append(found)
        row: dict[str, object] = {"model": workload.name}
        for tool, found_runs in runs.items():
            if found_runs:
                row[f"{tool}_s"] = round(statistics.median(s for s, _ in found_runs), 2)
                row[f"{tool}_mb"] = round(statistics.median(m for _, m in found_runs), 1)
        rows.append(row)
        print(row, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    if not arguments.models:
        RESULTS.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
