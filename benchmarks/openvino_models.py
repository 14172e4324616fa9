"""OpenVINO as a second execution provider: models compiled for it, run by it, against float there.

In an environment with onnxruntime-openvino (made on first use), every model of ../shared/data is
compiled for `openvino-cpu` with the default recipe, placements timed on the provider. Four files
are then timed in turn, one thread: the original on the CPU provider and on OpenVINO, and the result
on both. Integer arithmetic rounds differently there, so what is asked of the outputs of the result
is that they are not much further from float than on the CPU provider.

    python benchmarks/openvino_models.py [--rounds 15] [--folder FOLDER] [MODEL...]

Exit status 1 when a result does not run, is slower than its original on OpenVINO by more than 3 %,
or has outputs there that are below 100 dB and 3 dB further from float than on the CPU provider.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import graphopt
from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.pipeline import snr_db
from graphopt.registry import Registry
from graphopt.runtime import open_session
from machine import describe
from openvino_environment import SetupError, set_up
from peer_models import default_folder
from workloads import Workload, workloads

RESULTS = Path(__file__).parent / "results" / "openvino.json"
TARGET = "openvino-cpu"
FEEDS = 8
SLOWER = 1.03
WORSE_DB = 3.0
FLOAT_DB = 100.0
"""What float arithmetic in another order leaves at least."""


def row(workload: Workload, rounds: int) -> dict[str, Any]:
    """Compile one model and return its times and noise; runs inside the environment."""
    target = Registry().target(TARGET)
    with tempfile.TemporaryDirectory() as name:
        data = workload.write_calibration(Path(name))
        compiled = graphopt.compile(workload.path, target=TARGET, data=data)
    feeds = workload.feeds()[:FEEDS]
    original = ir.load(workload.path)
    sessions = {
        "fp32 cpu": open_session(original),
        "fp32 openvino": open_session(original, target=target),
        "result cpu": open_session(compiled.graph),
        "result openvino": open_session(compiled.graph, target=target),
    }
    times: dict[str, list[float]] = {label: [] for label in sessions}
    outputs = {
        label: [one for feed in feeds for one in session.run(feed)]
        for label, session in sessions.items()
    }
    for _ in range(rounds):
        for label, session in sessions.items():
            started = time.perf_counter()
            for feed in feeds:
                session.run(feed)
            times[label].append((time.perf_counter() - started) / len(feeds) * 1e3)
    float_ = outputs["fp32 cpu"]
    counts = compiled.report.operators
    return {
        "model": workload.name,
        "integer": sum(o.execution == "integer" for o in counts),
        "heavy": len(counts),
        "ms": {label: round(statistics.median(found), 4) for label, found in times.items()},
        "times_faster": {
            "than fp32 on openvino": ratio(times["fp32 openvino"], times["result openvino"]),
            "than fp32 on cpu": ratio(times["fp32 cpu"], times["result openvino"]),
        },
        "snr_db": {
            label: round(min(snr_db(float_, found), 200.0), 1) for label, found in outputs.items()
        },
    }


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 3)


def inside(names: list[str], rounds: int) -> None:
    """Print one line of JSON per model; what crashes the process is missing."""
    for workload in workloads(names):
        try:
            found = row(workload, rounds)
        except GraphOptError as error:
            found = {"model": workload.name, "failed": str(error)}
        print(json.dumps(found), flush=True)


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """Return what does not hold."""
    found = []
    for entry in rows:
        name = entry["model"]
        if "failed" in entry:
            found.append(f"{name}: {entry['failed']}")
            continue
        if entry["times_faster"]["than fp32 on openvino"] * SLOWER < 1:
            found.append(f"{name}: slower than fp32 on OpenVINO")
        noise = entry["snr_db"]
        if noise["result openvino"] < min(noise["result cpu"] - WORSE_DB, FLOAT_DB):
            found.append(f"{name}: {noise['result openvino']} dB, {noise['result cpu']} on the CPU")
    return found


def main() -> int:
    """Make the environment, run the models there, write the results; say what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, default=default_folder() / "openvino")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.models, arguments.rounds)
        return 0
    machine = describe()
    try:
        python = set_up(arguments.folder)
    except SetupError as error:
        print(f"the environment cannot be made: {error}", file=sys.stderr)
        return 2
    command = [str(python), __file__, "--inside", "--rounds", str(arguments.rounds)]
    with subprocess.Popen(
        [*command, *arguments.models], stdout=subprocess.PIPE, text=True
    ) as child:
        rows = []
        for line in child.stdout or ():
            rows.append(json.loads(line))
            print(line, end="", flush=True)
    wrong = faults(rows)
    if child.returncode:
        wrong.append(f"the process ended with {child.returncode}")
    print("\n".join(wrong) or "everything holds")
    if not arguments.models:
        content = {"machine": machine, "rounds": arguments.rounds, "rows": rows, "faults": wrong}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
