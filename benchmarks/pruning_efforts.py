"""What each effort of `prune-channels` costs for the first goal and for a further one, and reaches.

Every compile is a process of its own, estimated (no clock), one thread, with the calibration
samples of workloads.py; the goals of an effort share a cache that is empty before the first. So the
first pays for the scores of all options, the second for what depends on the goal, and `again`, the
second once more, for what is left when the smaller model is known. Seconds are of the processor, in
user mode, of the whole compile; accuracy is on the evaluation samples, which no compile sees.

    python benchmarks/pruning_efforts.py [--effort EFFORT]... [MODEL...]

Results are added to benchmarks/results/pruning_efforts.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from graphopt.runtime import open_session
from machine import describe
from workloads import Workload, scores, workloads

RESULTS = Path(__file__).parent / "results" / "pruning_efforts.json"
GOALS = {
    "cifar10_resnet20_jpegft_unfolded_bn": ("latency=0.85x", "latency=0.7x"),
    "cifar10_resnet56_unfolded_bn": ("latency=0.85x", "latency=0.7x"),
    "imagenet_proxyless_w025_r112": ("latency=0.9x", "latency=0.8x"),
}
OTHERS = ("latency=0.85x", "macs=0.8x")
EFFORTS = ("quick", "normal", "careful", "thorough")

COMPILE = """
import json, resource, sys
import graphopt
model, data, effort, goal, output = sys.argv[1:]
made = graphopt.compile(model, data=data, prune_to=goal, measure=False, overrides=[
    f"prune-channels.effort={effort}", "limits.max-divergence=100"])
made.save(output)
record = made.report.pruning
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": round(used.ru_utime, 1), "divergence": record.divergence,
                  "reached": round(record.after / record.before, 4), "options": record.options}))
"""

Row = dict[str, Any]


def judged(workload: Workload, path: Path) -> float | None:
    """Return the mean score of a model on the evaluation samples; None without labels."""
    labels = workload.labels()
    if labels is None:
        return None
    session = open_session(path)
    outputs = [session.run(feed)[0] for feed in workload.feeds()]
    scale = 1.0 if workload.metric == "psnr_db" else 100.0
    return round(scale * float(np.mean(scores(workload, outputs, labels))), 2)


def compiled(workload: Workload, effort: str, goal: str, folder: Path) -> Row:
    """Return what one compile in its own process cost and reached, or why it failed."""
    output = folder / f"{effort} {goal}.onnx"
    data = workload.write_calibration(folder)
    environment = os.environ | {"GRAPHOPT_CACHE": str(folder / effort), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(workload.path), str(data), effort, goal, str(output)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"goal": goal, "failed": done.stderr.strip().splitlines()[-1]}
    row = json.loads(done.stdout.splitlines()[-1])
    return {"goal": goal, **row, workload.metric: judged(workload, output)}


def measured(workload: Workload, effort: str) -> dict[str, Row]:
    """Return the rows of one effort: the first goal, a further one, and that one again."""
    first, further = GOALS.get(workload.name, OTHERS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = {"first": first, "further": further, "again": further}
        return {step: compiled(workload, effort, goal, folder) for step, goal in steps.items()}


def main() -> None:
    """Measure the models that are named, or three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--effort", action="append", choices=EFFORTS)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    options = parser.parse_args()
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    record["machine"] = describe()
    models = cast("dict[str, Any]", record.setdefault("models", {}))
    for workload in workloads(options.models or list(GOALS)):
        rows = models.setdefault(workload.name, {})
        for effort in options.effort or EFFORTS:
            rows[effort] = measured(workload, effort)
            print(workload.name, effort, json.dumps(rows[effort]), flush=True)
            RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
