"""What each kernel class takes in onnxruntime-web, from the times of whole models.

results/wasm.json has the milliseconds of float and int8 models. The roofline of the target `wasm`
says how much of each it attributes to each kernel class; one factor per class, and a cost per call,
are fitted to the relative error and drawn towards 1. What the script prints are the efficiencies
with which the estimates would be right, for graphopt/targets/data/wasm.toml: all factors are near 1
once the file has them.

    python benchmarks/wasm_fit.py
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from graphopt.cost import Roofline
from graphopt.cost.fitting.nnls import nnls
from graphopt.testing import named_target
from wasm_models import RESULTS, compiled
from workloads import workloads

CLASSES = (
    *("float32.conv", "float32.pointwise", "float32.depthwise", "float32.gemm", "float32.other"),
    *("int8.conv", "int8.pointwise", "int8.depthwise", "int8.gemm", "calls"),
)
COARSE = {"gemv": "gemm", "grouped": "conv"}
PRIOR = 0.15
"""Weight of the prior on a factor, in units of one model's relative error."""


def main() -> None:
    """Fit and print."""
    target = named_target("wasm")
    measured = {row["model"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    rows, times = [], []
    for workload in workloads([]):
        feed = workload.feeds()[0]
        with tempfile.TemporaryDirectory() as folder:
            graphs = compiled(workload, Path(folder))
        for recipe, graph in graphs.items():
            if recipe == "weight-only" or "ms" not in measured[workload.name].get(recipe, {}):
                continue
            dims = {
                dim: size
                for value in graph.feeds
                for dim, size in zip(value.shape or (), feed[value.name].shape, strict=False)
                if isinstance(dim, str)
            }
            shares: Counter[str] = Counter()
            for kernel in Roofline(dims).estimate(graph, target).kernels:
                name = f"{kernel.dtype}.{COARSE.get(kernel.kind, kernel.kind)}"
                name = name if name in CLASSES else "float32.other"
                shares[name] += int(1e3 * kernel.latency_us)  # nanoseconds
                shares["calls"] += 1000
            rows.append([shares[name] / 1e6 for name in CLASSES])
            times.append(float(measured[workload.name][recipe]["ms"]))
    matrix, goal = np.array(rows), np.array(times)
    strength = np.array([PRIOR] * (len(CLASSES) - 1) + [PRIOR / 50])
    centre = np.array([1.0] * (len(CLASSES) - 1) + [0.0])
    factors = nnls(
        np.vstack([matrix / goal[:, None], np.diag(strength)]),
        np.concatenate([np.ones(len(goal)), strength * centre]),
    )
    error = np.abs(matrix @ factors / goal - 1)
    before = np.abs(matrix[:, :-1].sum(axis=1) / goal - 1)
    known = target.compute.efficiency
    for name, factor in zip(CLASSES[:-1], factors[:-1], strict=True):
        now = known.get(name)
        wanted = "" if now is None or not factor else f"  efficiency {now:g} -> {now / factor:.3g}"
        print(f"{name:20s} factor {factor:5.2f}{wanted}")
    print(f"a call takes {target.compute.dispatch_us + 1e3 * 1e-3 * factors[-1]:.1f} us")
    print(
        f"mean error {100 * before.mean():.0f} % as the file is, {100 * error.mean():.0f} % fitted"
    )


if __name__ == "__main__":
    main()
