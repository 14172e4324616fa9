"""Whether what training simulates is what onnxruntime executes, integer by integer.

Every model of ../shared/data is compiled to 8 bits for each target, all operators that can be
integer. Its weights, biases and scales are then trained for some steps (Adam, mean squared error to
the float model, one calibration sample a step), and written into the graph. All integers that a Q
writes are compared on samples that were not trained on: as simulated by graphopt_torch, and as
computed by onnxruntime at full optimisation with the target's session entries. "plain" counts the
same with Q, DQ and float operators computed one after the other. Where float operators stand
between the integers and the last tensor differs, "by layer" counts what is computed from the
runtime's own integers in front of each Q: what differs by itself, not what follows from that.
Writes benchmarks/results/qat_exactness.json.

    python benchmarks/qat_exactness.py [--steps N] [--samples N] [MODEL …]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import machine
from graphopt import ir
from graphopt.api.compiler import compile_model
from graphopt.api.setup import find_target
from graphopt.registry import Registry
from graphopt.runtime import open_session
from graphopt.runtime.census import census
from workloads import Workload, workloads

if TYPE_CHECKING:
    from graphopt.ir import Graph

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "qat_exactness.json"
TARGETS = ("host", "arm")
OVERRIDES = ("insert-qdq.placement=integer", "quantize-matmuls.mode=off")
RATES = {"weights": 1e-5, "biases": 1e-5, "norms": 1e-5}
SCALE_RATE = 1e-3
WANTED = 0.999

Array = np.ndarray[Any, Any]


def main() -> int:
    """Measure and write; the exit status says whether every model holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--samples", type=int, default=4)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT / "plugins" / "graphopt-torch"))
    import torch

    torch.set_num_threads(1)
    about = machine.describe()
    rows = []
    for workload in workloads(asked.models):
        for target in TARGETS:
            row = measured(workload, target, asked.steps, asked.samples)
            rows.append(row)
            print(
                f"{workload.name:42} {target:5} {row['equal']:.6f} last {row['equal_last']:.6f} "
                f"worst {row['equal_worst']:.6f} plain {row['equal_plain']:.6f} "
                f"by layer {row['equal_by_layer']:.6f}",
                flush=True,
            )
    holds = all(min(r["equal"], r["equal_last"]) >= WANTED for r in rows)
    written = {
        "machine": about | {"torch": torch.__version__},
        "steps": asked.steps,
        "samples": asked.samples,
        "overrides": OVERRIDES,
        "wanted": WANTED,
        "holds": holds,
        "models": rows,
    }
    if not asked.models:
        RESULTS.write_text(json.dumps(written, indent=1) + "\n")
    return 0 if holds else 1


def measured(workload: Workload, target: str, steps: int, samples: int) -> dict[str, Any]:
    """Return the counts of one model on one target."""
    from graphopt_torch.execution import Program
    from graphopt_torch.quantization import TrainableWeights

    rules = find_target(target, Registry())
    calibration = workload.calibration()
    graph = compile_model(
        workload.path, target=target, data=calibration, overrides=OVERRIDES, measure=False
    ).graph
    kernels = census(graph, rules).kernels
    teacher, student = Program.of(ir.load(workload.path)), Program.of(graph)
    weights = TrainableWeights.of(graph, student)
    unchanged = weights.write(graph) == 0
    feeds = _rows(graph, calibration, steps)
    train(student, weights, teacher, feeds)
    changed = weights.write(graph)
    unseen = [dict(feed) for feed in workload.feeds()[:samples]]
    counts = compared(graph, student, weights, rules, unseen)
    return {
        "model": workload.name,
        "target": target,
        "unchanged_without_steps": unchanged,
        "changed": changed,
        "same_kernels": census(graph, rules).kernels == kernels,
        "kernels": {k: n for k, n in sorted(kernels.items()) if k.startswith("com.microsoft.Q")},
        **counts,
    }


def _rows(graph: Graph, arrays: dict[str, Array], steps: int) -> list[dict[str, Array]]:
    """Return one feed a step of the calibration samples."""
    count = min(steps, min(len(a) for a in arrays.values()))
    feeds = []
    for i in range(count):
        feed = {}
        for value in graph.feeds:
            array = arrays[value.name]
            whole = array.ndim > len(value.shape or ())
            feed[value.name] = np.ascontiguousarray(array[i] if whole else array[i : i + 1])
        feeds.append(feed)
    return feeds


def train(student: Any, weights: Any, teacher: Any, feeds: list[dict[str, Array]]) -> None:
    """Take one step of Adam for each feed."""
    import torch

    groups = [
        {"params": held, "lr": RATES.get(kind, SCALE_RATE)}
        for kind, held in weights.groups().items()
        if held
    ]
    optimizer = torch.optim.Adam(groups)
    for feed in feeds:
        tensors = {name: torch.from_numpy(array.copy()) for name, array in feed.items()}
        with torch.no_grad():
            wanted = teacher.run(tensors)
        found = student.run(tensors, values=weights.values())
        floats = [n for n, t in wanted.items() if t.is_floating_point()]
        loss = torch.stack([(found[n] - wanted[n]).square().mean() for n in floats]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compared(
    graph: Graph, student: Any, weights: Any, rules: Any, feeds: list[dict[str, Array]]
) -> dict[str, Any]:
    """Return the shares of integers that are equal, and how far float outputs are apart."""
    import torch

    names, executed = executions(graph, rules, feeds)
    between = [n.inputs[0] for n in graph.nodes("QuantizeLinear")]
    taps = {v.name: _as_it_is for v in between if v is not None and v.producer is not None}
    outputs = [v.name for v in graph.outputs]
    equal, plain, alone, total = (dict.fromkeys(names, 0) for _ in range(4))
    apart = 0.0
    with torch.no_grad():
        values = weights.values()
        for feed, wanted in zip(feeds, executed, strict=True):
            tensors = {name: torch.from_numpy(array.copy()) for name, array in feed.items()}
            found = student.run(tensors, [*outputs, *names], values=values)
            floats = student.run(tensors, names, values=values, taps=taps)
            for name in names:
                equal[name] += same(found[name], wanted[name])
                plain[name] += same(floats[name], wanted[name])
                total[name] += wanted[name].size
            for name in outputs:
                size = max(float(np.abs(wanted[name]).max()), 1e-30)
                apart = max(apart, float(np.abs(found[name].numpy() - wanted[name]).max()) / size)
        whole = all(equal[n] >= WANTED * total[n] for n in names)
        for feed, wanted in zip(feeds, executed, strict=True) if not whole else ():
            for name in names:
                others = {n: torch.from_numpy(wanted[n].copy()) for n in names if n != name}
                tensors = {n: torch.from_numpy(array.copy()) for n, array in feed.items()}
                made = student.run(tensors, [name], values={**values, **others})
                alone[name] += same(made[name], wanted[name])
    shares = [equal[n] / total[n] for n in names]
    count = max(1, sum(total.values()))
    return {
        "tensors": len(names),
        "elements": count,
        "equal": sum(equal.values()) / count,
        "equal_last": shares[-1] if shares else 1.0,
        "equal_worst": min(shares, default=1.0),
        "equal_plain": sum(plain.values()) / count,
        "equal_by_layer": sum((equal if whole else alone).values()) / count,
        "outputs_apart": apart,
    }


def executions(
    graph: Graph, rules: Any, feeds: list[dict[str, Array]]
) -> tuple[list[str], list[dict[str, Array]]]:
    """Return the names of the integers that Q write, and what the runtime makes of each feed."""
    seen = graph.copy()
    quantizers = [n for n in seen.nodes("QuantizeLinear") if not n.outputs[0].is_output]
    for node in quantizers:
        zero = node.inputs[2]
        node.outputs[0].dtype = zero.dtype if zero is not None else None
    names = [n.outputs[0].name for n in quantizers]
    seen.set_outputs([*seen.outputs, *(n.outputs[0] for n in quantizers)])
    session = open_session(seen, target=rules)
    wanted = [*(v.name for v in graph.outputs), *names]
    return names, [dict(zip(wanted, session.run(f, wanted), strict=True)) for f in feeds]


def same(found: Any, wanted: Array) -> int:
    """Return how many integers are equal."""
    return int((found.numpy().astype(np.int64) == wanted.astype(np.int64)).sum())


def _as_it_is(tensor: Any) -> Any:
    return tensor


if __name__ == "__main__":
    sys.exit(main())
