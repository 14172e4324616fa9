"""Calibration: wall time of each observer against onnxruntime's own min-max, and peak memory.

Time: from a model file and an .npz file to the ranges of all tensors that onnxruntime's calibrater
chooses, in one process, tools in turn; what is compared is the ratio within a round, and reported
the median of the rounds, of wall time and of processor time (all threads). Memory: a
process of its own per figure, start to exit.

    python benchmarks/calibration.py [--rounds 5] [--samples 100,10000] [MODEL…]
    python benchmarks/calibration.py --many 10000      time with so many samples, nothing else
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.api.source import input_specs
from graphopt.calibration.collect import collect
from graphopt.calibration.observers import Entropy, MinMax, MovingAverage, Mse, Percentile
from graphopt.calibration.sources import open_dataset
from graphopt.runtime import IntermediateTensors
from machine import describe
from workloads import Workload, workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    Cost = np.ndarray[Any, Any]
    from graphopt.calibration.base import Observer

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "calibration.json"
OBSERVERS: dict[str, Observer] = {
    observer.name: observer
    for observer in (MinMax(), MovingAverage(), Percentile(), Entropy(), Mse())
}
PEER = "onnxruntime min-max"
MEMORY_MODELS = {
    "kws_dscnn_bn": ("percentile", "entropy"),
    "mnist_cntk": ("percentile", "entropy"),
    "cifar10_resnet20": ("percentile",),
}
MANY_MODELS = ("kws_dscnn_bn", "mnist_cntk")
TIMED_MODELS = (
    "kws_dscnn_bn",
    "mnist_cntk",
    "cifar10_resnet20",
    "cifar10_resnet56",
    "imagenet_proxyless_w025_r112",
    "superres_espcn_x3_y",
    "face_rfb320",
    "dtln_model_1",
    "stories260k_decoder",
)


def now() -> Cost:
    """Return wall and processor seconds so far."""
    return np.array([time.perf_counter(), time.process_time()])


def ours(model: Path, data: Path, names: list[str], observer: Observer) -> Cost:
    """Return what it takes from files to ranges."""
    started = now()
    graph = ir.load(model)
    dataset = open_dataset(data, input_specs(graph))
    found = collect(IntermediateTensors(graph, names), dataset, observer, names)
    cost = now() - started
    assert set(found.ranges) == set(names), found.skipped
    return cost


def theirs(model: Path, data: Path, folder: Path) -> tuple[Cost, list[str]]:
    """Return what onnxruntime's min-max takes, and the tensors that it chose."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

    class Rows(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            with np.load(data) as arrays:
                self.arrays = dict(arrays)
            self.rows = iter(range(len(next(iter(self.arrays.values())))))

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            if row is None:
                return None
            return {name: array[row : row + 1] for name, array in self.arrays.items()}

    started = now()
    calibrator = create_calibrator(
        str(model), None, augmented_model_path=str(folder / "augmented.onnx")
    )
    calibrator.collect_data(Rows())
    ranges = calibrator.compute_data()
    return now() - started, sorted(ranges.data)


def inferred(model: Path, folder: Path) -> Path:
    """Write the model with the shapes that onnxruntime's calibrater needs; not timed."""
    import onnx

    path = folder / "inferred.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(model)), path)
    return path


def timed(workload: Workload, rounds: int, count: int | None = None) -> dict[str, Any]:
    """Return seconds and ratios of every observer on one model, with ``count`` samples if given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = (
            workload.write_calibration(folder)
            if count is None
            else repeated(workload, folder, count)
        )
        model = inferred(workload.path, folder)
        _, names = theirs(model, data, folder)
        costs: dict[str, list[Cost]] = {PEER: [], **{name: [] for name in OBSERVERS}}
        for turn in range(rounds + 1):  # the first round warms files and imports
            found = {PEER: theirs(model, data, folder)[0]}
            for name, observer in OBSERVERS.items():
                found[name] = ours(workload.path, data, names, observer)
            if turn:
                for name, cost in found.items():
                    costs[name].append(cost)
    row: dict[str, Any] = {"model": workload.name, "tensors": len(names)}
    for index, unit in enumerate(("wall", "cpu")):
        runs = {name: [float(cost[index]) for cost in found] for name, found in costs.items()}
        row[unit] = {
            "seconds": {name: round(statistics.median(r), 3) for name, r in runs.items()},
            "of_onnxruntime": {name: ratio(runs[name], runs[PEER]) for name in OBSERVERS},
            "of_min_max": {name: ratio(runs[name], runs["min-max"]) for name in OBSERVERS},
        }
    return row


def ratio(runs: list[float], reference: list[float]) -> float:
    """Return the median ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(runs, reference, strict=True)), 2)


def show(row: dict[str, Any]) -> None:
    """Print one line per unit: seconds and, in brackets, the ratio to onnxruntime's."""
    for unit in ("wall", "cpu"):
        cells = [f"{row[unit]['seconds'][PEER]:8.3f}"]
        for name in OBSERVERS:
            seconds, of_peer = row[unit]["seconds"][name], row[unit]["of_onnxruntime"][name]
            cells.append(f"{seconds:8.3f} ({of_peer:4.2f})")
        print(f"{row['model']:32s} {unit:5s}" + " ".join(f"{c:>16s}" for c in cells), flush=True)


def peak_memory(model: str, data: Path, observer: str) -> float:
    """Return the peak RSS in MB of a process that calibrates on ``data``.

    The process reads its own: what ``wait4`` says of a child includes its parent's peak.
    """
    command = [sys.executable, __file__, "--calibrate", model, str(data), observer]
    environment = {**os.environ, "GRAPHOPT_CACHE": ""}
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    return float(found.stdout)


def memory(workload: Workload, counts: list[int]) -> list[dict[str, Any]]:
    """Return the peak RSS by number of samples: the real ones over and over."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        files = [repeated(workload, Path(name), count) for count in counts]
        for observer in MEMORY_MODELS[workload.name]:
            peaks = [round(peak_memory(workload.name, file, observer), 1) for file in files]
            row = dict(zip(map(str, counts), peaks, strict=True))
            growth = round(max(peaks) / peaks[0], 3)
            rows.append(
                {"model": workload.name, "observer": observer, "peak_mb": row, "growth": growth}
            )
            print(rows[-1], flush=True)
    return rows


def repeated(workload: Workload, folder: Path, count: int) -> Path:
    """Write ``count`` samples: the real ones over and over."""
    file = folder / f"{count}.npz"
    arrays: dict[str, Any] = {
        key: np.resize(array, (count, *array.shape[1:]))
        for key, array in workload.calibration().items()
    }
    np.savez(file, **arrays)
    return file


def calibrate(name: str, data: Path, observer: str) -> None:
    """Calibrate every float tensor of a model and print the peak, in a process of its own."""
    graph = ir.load(next(workloads([name])).path)
    names = [v.name for node in graph.nodes() for v in node.outputs if v.name]
    dataset = open_dataset(data, input_specs(graph))
    collect(IntermediateTensors(graph, names), dataset, OBSERVERS[observer], names)
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def time_many(count: int, rounds: int, names: Sequence[str]) -> None:
    """Add the time with many samples to the results: what is done once per tensor is spread."""
    content = json.loads(RESULTS.read_text())
    measured = content.setdefault("time_many", [])
    for name in names:
        row = timed(next(workloads([name])), rounds, count)
        measured[:] = [other for other in measured if other["model"] != name]
        measured.append({"machine": describe(), "samples": count, "rounds": rounds, **row})
        show(row)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", default="100,10000")
    parser.add_argument("--many", type=int)
    parser.add_argument("--calibrate", nargs=3, metavar=("MODEL", "DATA", "OBSERVER"))
    arguments = parser.parse_args()
    if arguments.calibrate:
        name, data, observer = arguments.calibrate
        calibrate(name, Path(data), observer)
        return
    if arguments.many:
        time_many(arguments.many, arguments.rounds, arguments.models or MANY_MODELS)
        return
    content: dict[str, Any] = {"machine": describe(), "rounds": arguments.rounds}
    if RESULTS.exists():
        content["time_many"] = json.loads(RESULTS.read_text()).get("time_many", [])
    counts = [int(count) for count in arguments.samples.split(",")]
    chosen = [w for w in workloads(arguments.models) if w.name in MEMORY_MODELS]
    content["memory"] = [row for workload in chosen for row in memory(workload, counts)]
    print(" " * 38 + " ".join(f"{name:>16s}" for name in (PEER[:16], *OBSERVERS)))
    content["time"] = []
    for name in arguments.models or TIMED_MODELS:
        row = timed(next(workloads([name])), arguments.rounds)
        content["time"].append(row)
        show(row)
        if not arguments.models:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
