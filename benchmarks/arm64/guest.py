"""Runs inside the emulated arm64 Python: SITE JOBS.json, opens, dumps and runs every model.

JOBS.json is a list of objects with the paths `model`, `feeds` (.npz with arrays "ROUND/INPUT"),
`dump` (where onnxruntime writes the graph that it executes) and `outputs` (.npz "ROUND/NUMBER").
Where a model fails there are no outputs.
Options are the runtime's own: nothing tells it what it may fuse.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

import numpy as np
import onnxruntime as ort


def run(job: dict[str, str]) -> None:
    """Open one model at full optimisation, one thread, and run it on all feeds."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.optimized_model_filepath = job["dump"]
    session = ort.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    rounds: dict[str, dict[str, np.ndarray]] = {}
    with np.load(job["feeds"]) as feeds:
        for key in feeds.files:
            number, _, name = key.partition("/")
            rounds.setdefault(number, {})[name] = feeds[key]
    outputs = {
        f"{number}/{position}": value
        for number, feed in rounds.items()
        for position, value in enumerate(session.run(None, feed))
    }
    np.savez(job["outputs"], **outputs)


if __name__ == "__main__":
    facts = {"machine": platform.machine(), "onnxruntime": ort.__version__}
    print(json.dumps(facts), flush=True)
    for job in json.loads(Path(sys.argv[2]).read_text()):
        try:
            run(job)
            print(json.dumps({"done": job["model"]}), flush=True)
        except Exception as error:  # a model that fails must not hide what the others do
            print(json.dumps({"failed": job["model"], "why": str(error)[:300]}), flush=True)
