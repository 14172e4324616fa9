"""Speed on this machine: fp32 original, graphopt, and onnxruntime's quantize_static, interleaved.

All contenders of a model run in one process, one thread, without spinning, round by round on the
same evaluation feeds. A figure is the median over rounds of latency(fp32) / latency(contender);
the ratio of minima stands beside it.

    python benchmarks/speed.py [--seconds 6] [MODEL…]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import graphopt
from graphopt.errors import GraphOptError
from graphopt.runtime import open_session, race
from machine import describe
from workloads import Workload, workloads

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "speed.json"


def peer_model(workload: Workload, data: Path, folder: Path) -> Path | None:
    """Make the peer's model; None when its tools fail or onnxruntime cannot load the result."""
    path = folder / "peer.onnx"
    command = [sys.executable, str(HERE / "peer_quantize_static.py"), str(workload.path), str(data)]
    # The peer leaves scratch files in the working folder.
    done = subprocess.run([*command, str(path)], capture_output=True, check=False, cwd=folder)
    if done.returncode != 0:
        return None
    try:
        open_session(path)
    except GraphOptError:
        return None
    return path


def measure(workload: Workload, seconds: float) -> dict[str, object]:
    """Race the contenders of one model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = workload.write_calibration(folder)
        compiled = graphopt.compile(workload.path, target="host", data=data)
        sessions = {"fp32": open_session(workload.path), "graphopt": compiled.session()}
        peer = peer_model(workload, data, folder)
        if peer is not None:
            sessions["quantize_static"] = open_session(peer)
        result = race(
            sessions, workload.feeds()[:8], seconds=seconds, min_rounds=15, max_rounds=1000
        )
    row: dict[str, object] = {
        "model": workload.name,
        "fp32_ms": round(result.timings["fp32"].median_ms, 4),
        "placement": next((c.placement for c in compiled.report.candidates if c.chosen), "float"),
        "integer": sum(o.execution == "integer" for o in compiled.report.operators),
        "heavy": len(compiled.report.operators),
        "size_ratio": round(compiled.report.result.size_bytes / workload.path.stat().st_size, 3),
        "rounds": result.timings["fp32"].rounds,
    }
    for contender in sessions:
        if contender != "fp32":
            row[contender] = round(result.speedup(contender, "fp32"), 3)
            row[f"{contender}_minima"] = round(result.speedup_of_minima(contender, "fp32"), 3)
    if peer is not None:
        row["against_peer"] = round(result.speedup("graphopt", "quantize_static"), 3)
        row["against_peer_minima"] = round(
            result.speedup_of_minima("graphopt", "quantize_static"), 3
        )
    return row


def geometric_mean(values: list[float]) -> float:
    """Return exp(mean(log(values)))."""
    return math.exp(sum(map(math.log, values)) / len(values))


def main() -> None:
    """Measure, print, write the results; exit 1 when a bar of the project is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    machine = describe()
    rows = []
    for workload in workloads(arguments.models):
        rows.append(measure(workload, arguments.seconds))
        print(rows[-1], flush=True)
    ours = [float(str(r["graphopt"])) for r in rows]
    peers = [float(str(r["against_peer"])) for r in rows if "against_peer" in r]
    summary = {
        "geomean_against_fp32": round(geometric_mean(ours), 3),
        "lowest_against_fp32": min(ours),
        "geomean_against_peer": round(geometric_mean(peers), 3) if peers else None,
        "lowest_against_peer": min(peers) if peers else None,
    }
    print(summary)
    RESULTS.parent.mkdir(exist_ok=True)
    if not arguments.models:
        content = {"machine": machine, "summary": summary, "rows": rows}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(0 if min(ours) >= 0.97 and (not peers or min(peers) >= 0.97) else 1)


if __name__ == "__main__":
    main()
