"""Sparse weights: accuracy by pattern and method, file sizes, and the time that they do not save.

Four models at 50 % zeros, unstructured, 2:4 and in blocks of 4 input channels. Zeros are chosen by
magnitude, Wanda or OBS; "solved" rows have the remaining weights solved for by least squares. The
calibration samples are never the test samples, of which there are 2000 at most. Sizes are of whole
files: dense, with sparse constants where they are smaller, and after zlib. Times faster is the
median of dense to sparse latency in interleaved rounds, one thread.

    python benchmarks/sparsity.py [MODEL ...]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from graphopt import ir
from graphopt.passes.prune.sparsify_weights import SparsifyWeights
from graphopt.runtime import open_session, race
from graphopt.testing import context
from machine import describe
from workloads import Workload, workloads

RESULTS = Path(__file__).parent / "results" / "sparsity.json"
MODELS = (
    "cifar10_resnet20_jpegft",
    "imagenet_proxyless_w025_r112",
    "kws_dscnn_bn",
    "stories260k_decoder",
)
PATTERNS = ("unstructured", "2:4", "block")
METHODS = (
    ("magnitude", False),
    ("magnitude", True),
    ("wanda", True),
    ("obs", True),
)
TESTED = 2000
BATCH = 16
HIGH = 0.8
"""Share of zeros at which sparse constants pay; a third of non-zeros is the limit."""

Array = np.ndarray[Any, Any]


def accuracy(model: ir.Graph, workload: Workload) -> float:
    """Return top-1, or next-token accuracy, in points."""
    session = open_session(model)
    labels = workload.labels()
    assert labels is not None
    feeds, hits = workload.feeds()[:TESTED], []
    for start in range(0, len(feeds), BATCH):
        part, truth = feeds[start : start + BATCH], labels[start : start + BATCH]
        found = session.run({k: np.concatenate([f[k] for f in part]) for k in part[0]})[0]
        if workload.metric == "next_token":
            found, truth = found[:, :-1], truth[:, 1:]
        hits.append((found.argmax(axis=-1) == truth).ravel())
    return round(100 * float(np.mean(np.concatenate(hits))), 2)


def sizes(model: ir.Graph, sparse: ir.Graph) -> dict[str, int]:
    """Return bytes of the file: dense, with sparse constants, and the dense one deflated."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        ir.save(model, path)
        dense = path.read_bytes()
        ir.save(sparse, path)
        return {
            "dense": len(dense),
            "sparse": path.stat().st_size,
            "deflated": len(zlib.compress(dense, 6)),
        }


def measure(workload: Workload) -> dict[str, Any]:
    """Return all rows of one model."""
    original = ir.load(workload.path)
    asked = context(data=workload.calibration(), model=original)
    dense = {"accuracy": accuracy(original, workload), "bytes": sizes(original, original)}
    rows: dict[str, Any] = {"dense": dense}
    print(workload.name, rows["dense"], flush=True)
    for pattern in PATTERNS:
        for method, solved in METHODS:
            step = SparsifyWeights(pattern=pattern, method=method, reconstruct=solved)  # type: ignore[arg-type]
            name = f"{pattern} {method}" + " solved" * solved
            model, rows[name] = made(step, original, asked, workload)
            print(f"  {name:32} {rows[name]}", flush=True)
            if (method, solved) == ("obs", True):
                rows[name]["times_faster"] = times_faster(original, model, workload)
    high, rows[f"unstructured obs solved, {HIGH:.0%}"] = made(
        SparsifyWeights(sparsity=HIGH), original, asked, workload
    )
    rows[f"unstructured obs solved, {HIGH:.0%}"]["times_faster"] = times_faster(
        original, high, workload
    )
    return rows


def made(
    step: SparsifyWeights, original: ir.Graph, asked: Any, workload: Workload
) -> tuple[ir.Graph, dict[str, Any]]:
    """Return the sparse model and its row."""
    model, started = original.copy(), time.perf_counter()
    result = step.run(model, asked)
    seconds = time.perf_counter() - started
    stored = model.copy()
    options = {"sparsity": step.sparsity, "pattern": step.pattern, "method": "magnitude"}
    SparsifyWeights(**options, store="sparse").run(stored, context())  # type: ignore[arg-type]
    row = {
        "accuracy": accuracy(model, workload),
        "zeros": round(result.metrics["zeros"], 4),
        "bytes": sizes(model, stored),
        "seconds": round(seconds, 1),
    }
    return model, row


def times_faster(original: ir.Graph, model: ir.Graph, workload: Workload) -> float:
    """Return the median of the ratios dense to sparse; 1 is no gain."""
    sessions = {"dense": open_session(original), "sparse": open_session(model)}
    found = race(sessions, workload.feeds()[:8], seconds=4.0, max_rounds=2000)
    return round(found.speedup("sparse", "dense"), 3)


def main() -> None:
    """Measure and write the results."""
    names = sys.argv[1:] or list(MODELS)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and sys.argv[1:] else {}
    found = {"machine": describe(), "sparsity": 0.5, "models": found.get("models", {})}
    for workload in workloads(names):
        found["models"][workload.name] = measure(workload)
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
