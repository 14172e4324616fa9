"""Runs inside the emulated arm64 Python: SITE JOBS.json, marks one inference of every model.

JOBS.json is a list of objects with the paths `model` and `feeds` (.npz). The call of getsid(0)
before and after the marked run is what the counting plugin waits for. One run comes before it, so
that nothing is allocated or packed for the first time in it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

import numpy as np
import onnxruntime as ort


def run(job: dict[str, str]) -> None:
    """Open one model as it is, one thread, and mark its second run."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(job["model"], options, providers=["CPUExecutionProvider"])
    with np.load(job["feeds"]) as data:
        feed = {name: data[name] for name in data.files}
    session.run(None, feed)
    os.getsid(0)
    session.run(None, feed)
    os.getsid(0)


if __name__ == "__main__":
    for job in json.loads(Path(sys.argv[2]).read_text()):
        run(job)
        print(job["model"], flush=True)
