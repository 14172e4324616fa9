"""Times networks on this machine: end to end, or kernel by kernel under onnxruntime's profiler.

    python host_measure.py clean|profile OUT.json --threads N --seconds S FILES.json

FILES.json maps names to files. ``profile`` wants graphs that onnxruntime has already optimised:
their nodes have the names by which kernels are told apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

LONGEST_NS = 15e6
"""How long one network is timed in one round."""

OPEN_SIZE = 64
"""What a size counts as that the network leaves open; a batch is 1."""

_FIRST = 2
"""Runs under the profiler that are not counted."""


def opened(path: str, threads: int, profile: Path | None = None) -> ort.InferenceSession:
    """Return a session; optimised unless it is to be profiled."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def noise(session: ort.InferenceSession) -> dict[str, Any]:
    """Return a feed."""
    made = {}
    for number, given in enumerate(session.get_inputs()):
        shape = [
            size if isinstance(size, int) else (OPEN_SIZE if axis else 1)
            for axis, size in enumerate(given.shape)
        ]
        random = np.random.default_rng(number)
        made[given.name] = (
            random.integers(0, 100, shape).astype(np.int64)
            if "int64" in given.type
            else random.standard_normal(shape).astype(np.float32)
        )
    return made


def timed(session: ort.InferenceSession, feed: dict[str, Any], runs: int) -> list[int]:
    """Return the nanoseconds of each run."""
    names = [output.name for output in session.get_outputs()]
    found = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        session.run(names, feed)
        found.append(time.perf_counter_ns() - start)
    return found


def clean(files: dict[str, str], threads: int, seconds: float) -> dict[str, Any]:
    """Return the shortest time of each network: rounds over all of them, in changing order."""
    sessions = {name: opened(path, threads) for name, path in files.items()}
    feeds = {name: noise(session) for name, session in sessions.items()}
    first = {name: min(timed(session, feeds[name], 3)) for name, session in sessions.items()}
    best: dict[str, list[float]] = {name: [] for name in sessions}
    start, random = time.monotonic(), np.random.default_rng(0)
    while time.monotonic() - start < seconds:
        for name in map(str, random.permutation(list(sessions))):
            timed(sessions[name], feeds[name], 1)
            runs = int(np.clip(LONGEST_NS / first[name], 1, 200))
            best[name].append(min(timed(sessions[name], feeds[name], runs)) / 1e3)
    return {name: {"min_us": min(us), "rounds": len(us)} for name, us in best.items()}


def profile(files: dict[str, str], threads: int, seconds: float) -> dict[str, Any]:
    """Return the time of each node of each network, the mean of the quieter half of the runs."""
    found = {}
    for name, path in files.items():
        with tempfile.TemporaryDirectory() as folder:
            session = opened(path, threads, Path(folder) / "profile")
            feed = noise(session)
            first = min(timed(session, feed, _FIRST)) / 1e9
            timed(session, feed, int(np.clip(seconds / len(files) / first, 8, 150)))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        nodes: dict[str, list[float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                node = event["name"].removesuffix("_kernel_time")
                nodes.setdefault(node, []).append(float(event["dur"]))
        found[name] = {node: low_mean(us[_FIRST:]) for node, us in nodes.items()}
    return found


def low_mean(values: list[float]) -> float:
    """Return the mean of the lower half: finer than the microsecond that the profiler counts in."""
    ordered = np.sort(np.array(values))
    return float(ordered[: max(1, (len(ordered) + 1) // 2)].mean())


def main() -> None:
    """Time what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["clean", "profile"])
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    ort.set_default_logger_severity(4)
    files = json.loads(options.files.read_text())
    run = clean if options.mode == "clean" else profile
    options.out.write_text(json.dumps(run(files, options.threads, options.seconds)))


if __name__ == "__main__":
    main()
