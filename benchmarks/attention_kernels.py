"""Which operator is the fastest attention on this machine: spelled out, standard, or contributed.

For a few sizes and masks, four models that compute the same are run in turns: the operators that
exporters write (as onnxruntime optimises them), Attention of opset 23 on rows and on heads, and
com.microsoft.MultiHeadAttention. Medians of alternating runs; ratios are of times, spelled out
divided by fused. Writes benchmarks/results/attention_kernels.json.

    python benchmarks/attention_kernels.py [--seconds N]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import parser

import machine

RESULTS = Path(__file__).parent / "results" / "attention_kernels.json"
HEADER = '<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>'
SIZES = (
    (1, 4, 16, 16, 16),
    (1, 12, 128, 128, 64),
    (1, 12, 512, 512, 64),
    (8, 12, 64, 64, 64),
    (1, 8, 1, 256, 64),
    (2, 6, 197, 197, 64),
)
"""Batch, heads, queries, keys, features of a head."""
MASKS = ("none", "added", "boolean")
LOW = -3.0e38


def spelled(kind: str, size: tuple[int, ...], mask: str) -> str:
    """Return a model of one attention as text."""
    batch, heads, queries, keys, features = size
    width = heads * features
    scale = 1 / math.sqrt(features)
    given = {
        "none": "",
        "added": f", float[1, 1, {queries}, {keys}] m",
        "boolean": f", bool[{batch}, 1, {queries}, {keys}] m",
    }[mask]
    added = {"none": "", "added": "", "boolean": "f = Where (m, zero, low)"}[mask]
    name = {"none": "", "added": "m", "boolean": "f"}[mask]
    body = {
        "spelled out": f"""{added} {PARTED} t = Transpose <perm = [0, 1, 3, 2]> (k2)
            s = MatMul (q2, t) e = Mul (s, scale)
            {f"a = Add (e, {name})" if name else "a = Identity (e)"}
            w = Softmax <axis = -1> (a) o = MatMul (w, v2) {JOINED}""",
        "rows": f"y = Attention <scale = {scale}, q_num_heads = {heads}, kv_num_heads = {heads}>"
        f" (q, k, v{', m' if name else ''})",
        "heads": f"{PARTED} o = Attention <scale = {scale}> (q2, k2, v2{', m' if name else ''})"
        f" {JOINED}",
        "contributed": f"{added} y = com.microsoft.MultiHeadAttention <scale = {scale},"
        f" num_heads = {heads}> (q, k, v{f', , , {name}' if name else ''})",
    }[kind]
    return f"""{HEADER}
      m (float[{batch}, {queries}, {width}] q, float[{batch}, {keys}, {width}] k,
         float[{batch}, {keys}, {width}] v{given}) => (float[{batch}, {queries}, {width}] y)
      <float scale = {{{scale}}}, float low = {{{LOW}}}, float zero = {{0.0}},
       int64[4] parts = {{0, 0, {heads}, {features}}}, int64[3] flat = {{0, 0, {width}}}>
      {{ {body} }}"""


PARTED = " ".join(
    f"{n}1 = Reshape ({n}, parts) {n}2 = Transpose <perm = [0, 2, 1, 3]> ({n}1)" for n in "qkv"
)
JOINED = "b = Transpose <perm = [0, 2, 1, 3]> (o) y = Reshape (b, flat)"
KINDS = ("spelled out", "rows", "heads", "contributed")


def feeds(size: tuple[int, ...], mask: str) -> dict[str, Any]:
    """Return random rows, and a mask that hides later keys."""
    batch, heads, queries, keys, features = size
    random = np.random.default_rng(0)
    lengths = {"q": queries, "k": keys, "v": keys}
    found: dict[str, Any] = {
        n: random.standard_normal((batch, t, heads * features)).astype(np.float32)
        for n, t in lengths.items()
    }
    seen = np.tril(np.ones((queries, keys), bool), keys - queries)
    if mask == "added":
        found["m"] = np.where(seen, np.float32(0), np.float32(LOW))[None, None]
    elif mask == "boolean":
        found["m"] = np.ascontiguousarray(np.broadcast_to(seen, (batch, 1, queries, keys)))
    return found


def raced(size: tuple[int, ...], mask: str, seconds: float) -> dict[str, Any]:
    """Return medians in microseconds, and the largest difference from the spelled-out result."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    given = feeds(size, mask)
    sessions = {}
    for kind in KINDS:
        model = parser.parse_model(spelled(kind, size, mask)).SerializeToString()
        sessions[kind] = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
    outputs = {kind: session.run(None, given)[0] for kind, session in sessions.items()}
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for kind, session in sessions.items():
            for _ in range(3):
                started = time.perf_counter()
                session.run(None, given)
                times[kind].append(time.perf_counter() - started)
    return {
        "size": size,
        "mask": mask,
        "microseconds": {k: round(statistics.median(v) * 1e6, 1) for k, v in times.items()},
        "difference": {
            k: float(np.abs(v - outputs["spelled out"]).max()) for k, v in outputs.items()
        },
    }


def main() -> None:
    """Run all sizes and masks, print a table and write the results."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=2.0, help="for each size and mask")
    seconds = options.parse_args().seconds
    rows = []
    for size in SIZES:
        for mask in MASKS:
            row = raced(size, mask, seconds)
            first = row["microseconds"]["spelled out"]
            ratios = {k: round(first / v, 2) for k, v in row["microseconds"].items()}
            rows.append(row | {"speed": ratios})
            print(size, mask, ratios, flush=True)
    RESULTS.write_text(json.dumps({"machine": machine.describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
