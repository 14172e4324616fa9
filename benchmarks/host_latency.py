"""Predicted against measured latency of real networks on this machine, each family left out.

Ground truth of a network is its shortest clean time over rounds that go through all networks; that
of a kernel what onnxruntime's profiler says, less what the profiler adds, scaled so that the
kernels of a network sum up to its clean time. Kernels are those of the graph that onnxruntime
executes. To predict a network, curves are fitted to what `graphopt profile` measures and to the
kernels of the networks of all *other* families.

    python benchmarks/host_latency.py [--folder DIR] [--quiet COMMAND]

Everything measured is kept in DIR; a second run only measures what is missing. ``--quiet`` is put
before each command that times something. Two independent measurements of all networks give the
noise ceiling: what the first predicts of the second.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.cost.curves import settled, threaded
from graphopt.cost.executed import kernels_of_optimized
from graphopt.cost.fitting.device import fitter_for, with_keeping
from graphopt.cost.fitting.samples import Sample, merged, samples_of
from graphopt.cost.fitting.threads import fit_threads
from graphopt.cost.profiling.measurements import Measurements
from graphopt.cost.shapes import sized
from graphopt.cost.signature import Signature, signature_of
from graphopt.cost.terms import Around
from graphopt.cost.work import Product
from graphopt.runtime import executed_graph, made_up_feed
from graphopt.targets import host_target
from graphopt.targets.profile import DeviceProfile
from host_nets import Net, nets
from host_scores import classes, coverage, forgetting, score
from machine import describe

if TYPE_CHECKING:
    from graphopt.cost.fitting.curves import CurveFitter
    from graphopt.cost.terms import Grid
    from graphopt.targets.profile import KernelCurve

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "host_latency.json"
FOLDER = Path.home() / ".cache" / "graphopt-host-latency"

PROFILER_US = 1.6
"""What the profiler adds to a kernel on a quiet machine; the rest of its bias is a scale."""

RUN_US = 4.3
"""What one inference takes besides its kernels: one run of a one-node model, measured."""

LEAST_US = 0.15
SMALL_US = 150.0
"""Networks faster than this are listed separately too: most of their time is starting kernels."""

CLEAR = 0.05
"""Relative difference of two kernels from which their order is not left to noise."""


@dataclasses.dataclass
class Measured:
    """One network with everything measured about it."""

    net: Net
    signatures: tuple[Signature, ...]
    truth: Any
    us: float
    again: float
    two: float
    resident: int


# -- making and measuring ---------------------------------------------------------------------


def executed_file(net: Net, folder: Path) -> tuple[Path, tuple[Signature, ...]]:
    """Return the graph that onnxruntime executes, nodes called k0_ and so on, and its kernels."""
    path = folder / "executed" / net.form / f"{net.key.replace('/', '_')}.onnx"
    kept = path.with_suffix(".json")
    if not kept.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        graph = ir.load(net.file(folder))
        known, _ = sized(graph, {})
        executed = executed_graph(graph, host_target(), made_up_feed(known))
        kernels = kernels_of_optimized(executed, host_target(), original=known)
        for number, node in enumerate(executed.nodes()):
            node.name = f"k{number}_"
        ir.save(executed, path)
        plain = [dataclasses.asdict(signature_of(kernel)) for kernel in kernels]
        kept.write_text(json.dumps(plain))
    return path, tuple(_signature(entry) for entry in json.loads(kept.read_text()))


def _signature(plain: dict[str, Any]) -> Signature:
    product = plain["product"]
    return Signature(**{**plain, "product": Product(**product) if product else None})


def measured_once(
    folder: Path, name: str, mode: str, files: dict[str, Path], quiet: str, *options: str
) -> dict[str, Any]:
    """Return what a process of its own measures; kept."""
    out = folder / f"{name}.json"
    if not out.exists():
        listed = folder / "files.json"
        listed.write_text(json.dumps({key: str(path) for key, path in files.items()}))
        command = [sys.executable, str(HERE / "host_measure.py"), mode, str(out), str(listed)]
        subprocess.run([*shlex.split(quiet), *command, *options], check=True)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def micro(folder: Path, quiet: str) -> Measurements:
    """Return what `graphopt profile` measures of this machine; kept."""
    kept = folder / "micro.json"
    if not kept.exists():
        from graphopt.api.profiling import write_bundle
        from graphopt.cost.profiling.join import measurements_of
        from graphopt.cost.profiling.results import read_results

        archive, results = folder / "device.pyz", folder / "device_results.json"
        write_bundle(archive)
        command = [sys.executable, str(archive), str(results)]
        subprocess.run([*shlex.split(quiet), *command], check=True)
        found = measurements_of(read_results(results), host_target(), lambda done, total: None)
        kept.write_text(json.dumps(found.to_json()))
    return Measurements.from_json(json.loads(kept.read_text()))


def measure(folder: Path, quiet: str) -> list[Measured]:
    """Return every network with its times."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = nets()
    files = {net.name: net.file(folder) for net in chosen}
    made = {net.name: executed_file(net, folder) for net in chosen}
    first = measured_once(folder, "clean_1", "clean", files, quiet)
    executed = {name: path for name, (path, _) in made.items()}
    profiles = [
        measured_once(folder, f"profile_{n}", "profile", executed, quiet, "--seconds", "45")
        for n in (1, 2)
    ]
    second = measured_once(folder, "clean_2", "clean", files, quiet)
    two = measured_once(folder, "clean_two", "clean", files, quiet, "--threads", "2")
    return [
        _one(net, made[net.name][1], [p[net.name] for p in profiles],
             *(run[net.name]["min_us"] for run in (first, second, two)))
        for net in chosen
    ]  # fmt: skip


def _one(
    net: Net, signatures: tuple[Signature, ...], profiles: list[dict[str, float]],
    first: float, second: float, two: float,
) -> Measured:  # fmt: skip
    """Return a network; its kernels without what the profiler adds."""
    us = min(first, second)
    profiled = [min(p.get(f"k{i}_", 0.0) for p in profiles) for i in range(len(signatures))]
    truth = np.maximum(np.array(profiled) - PROFILER_US, LEAST_US)
    truth *= max(us - RUN_US, 1.0) / truth.sum()
    resident = sum(s.weight_bytes for s in signatures)
    return Measured(net, signatures, truth, first, second, two, resident)


# -- predicting -------------------------------------------------------------------------------


def grid_kept(measurements: Measurements) -> Grid:
    """Return the machine's grid; how long its caches keep what, `graphopt profile` alone tells."""
    target = host_target()
    alone = samples_of(measurements, 1, target.quantization.activations)
    return with_keeping(alone, target)


def fitter_of(everything: list[Measured], measurements: Measurements, grid: Grid) -> CurveFitter:
    """Return a fitter on micro-measurements and on the kernels of all networks, by family."""
    target = host_target()
    alone = samples_of(measurements, 1, target.quantization.activations)
    samples = [dataclasses.replace(s, source=f"micro/{s.source}") for s in alone]
    samples += merged(
        Sample(signature, float(us), one.net.family, Around(one.resident, min(one.us, one.again)))
        for one in everything
        for signature, us in zip(one.signatures, one.truth, strict=True)
    )
    return fitter_for(samples, grid, target)


def predicted(one: Measured, curves: dict[str, KernelCurve], grid: Grid) -> list[float]:
    """Return the microseconds of each kernel."""
    profile = DeviceProfile("", "", "", 1, "", curves, run_us=RUN_US)
    return settled(one.signatures, profile, grid)[0]


def left_out(
    everything: list[Measured], measurements: Measurements, grid: Grid, *, anchors: bool
) -> dict[str, list[float]]:
    """Return the predicted kernels of each network, its family left out (all of them, or it)."""
    fitter = fitter_of(everything, measurements, grid)
    families = sorted({one.net.family for one in everything})
    found = {}
    for family in families:
        curves = fitter.fit(frozenset({family} if anchors else families))
        for one in everything:
            if one.net.family == family:
                found[one.net.name] = predicted(one, curves, grid)
    return found


# -- scoring ----------------------------------------------------------------------------------


def signs(everything: list[Measured], kernels: dict[str, list[float]]) -> dict[str, Any]:
    """Return how often integers are rightly said to be faster, and what wrong choices cost."""
    by_name = {one.net.name: one for one in everything}
    right, clear, models, worth = [], [], [], []
    for one in everything:
        other = by_name.get(one.net.name.replace(":fp32", ":int8"))
        if one.net.form != "fp32" or other is None:
            continue
        totals = {m.net.form: sum(kernels[m.net.name]) + RUN_US for m in (one, other)}
        actual = {m.net.form: min(m.us, m.again) for m in (one, other)}
        chosen = min(totals, key=lambda form: totals[form])
        models.append((totals["fp32"] > totals["int8"]) == (actual["fp32"] > actual["int8"]))
        worth.append(actual[chosen] / min(actual.values()) - 1)
        for first, second in matched(one, other, kernels):
            agrees = (first[0] > second[0]) == (first[1] > second[1])
            right.append(agrees)
            if abs(first[1] / second[1] - 1) > CLEAR:
                clear.append(agrees)
    return {
        "kernels": len(right),
        "kernel_sign_right": round(100 * float(np.mean(right)), 2),
        "kernel_sign_right_where_clear": round(100 * float(np.mean(clear)), 2),
        "models": len(models),
        "model_sign_right": round(100 * float(np.mean(models)), 2),
        "regret": round(100 * float(np.mean(worth)), 3),
    }


def matched(
    one: Measured, other: Measured, kernels: dict[str, list[float]]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return (predicted, measured) of the same products in both forms, in their order."""
    places: dict[Any, list[tuple[float, float]]] = defaultdict(list)
    for signature, made, us in zip(
        other.signatures, kernels[other.net.name], other.truth, strict=True
    ):
        if signature.product is not None and signature.dtype == "int8":
            places[_shape(signature.product)].append((made, float(us)))
    found = []
    for signature, made, us in zip(one.signatures, kernels[one.net.name], one.truth, strict=True):
        if signature.product is not None and places[_shape(signature.product)]:
            found.append(((made, float(us)), places[_shape(signature.product)].pop(0)))
    return found


def _shape(product: Product) -> tuple[int, ...]:
    return product.rows, product.columns, product.window, product.groups


def with_two_threads(
    everything: list[Measured], kernels: dict[str, list[float]], measurements: Measurements
) -> dict[str, float]:
    """Return the scores with two threads: scaling from the micro-measurements alone."""
    one: dict[Any, float] = {}
    pairs = []
    for row in sorted(measurements.rows, key=lambda row: row.threads):
        key = (row.signature, row.source, row.context)
        if row.threads == 1:
            one[key] = row.min_us
        elif row.threads == 2 and key in one:
            pairs.append((one[key], row.min_us))
    speedup, grain = fit_threads({2: pairs})
    profile = DeviceProfile("", "", "", 1, "", {}, speedup=speedup, grain_us=grain)
    rows = [
        (sum(threaded(us, profile, 2) for us in kernels[m.net.name]) + RUN_US, m.two)
        for m in everything
    ]
    return {**score(rows), "speedup": round(speedup.get("2", 1.0), 3), "grain_us": grain}


def evaluate(everything: list[Measured], measurements: Measurements) -> dict[str, Any]:
    """Return all tables."""
    grid = grid_kept(measurements)
    kernels = left_out(everything, measurements, grid, anchors=True)
    alone = left_out(everything, measurements, grid, anchors=False)
    totals = {one.net.name: sum(kernels[one.net.name]) + RUN_US for one in everything}
    pairs = {
        one.net.name: (one.net.family, totals[one.net.name], min(one.us, one.again))
        for one in everything
    }
    rows = list(pairs.values())

    def part(keep: Any) -> dict[str, float]:
        return score([pairs[one.net.name][1:] for one in everything if keep(one)])

    macs = {one.net.name: sum(s.macs for s in one.signatures) for one in everything}
    known = [(macs[n], us) for n, (_, _, us) in pairs.items() if macs[n]]
    rate = float(np.median([us / m for m, us in known]))
    return {
        "leave_one_family_out": score([row[1:] for row in rows]),
        "fp32": part(lambda one: one.net.form == "fp32"),
        "int8": part(lambda one: one.net.form == "int8"),
        "over_150_us": part(lambda one: min(one.us, one.again) > SMALL_US),
        "micro_measurements_alone": score(
            [(sum(alone[one.net.name]) + RUN_US, pairs[one.net.name][2]) for one in everything]
        ),
        "noise_ceiling": score([(one.us, one.again) for one in everything]),
        "macs": score([(m * rate, us) for m, us in known]),
        "two_threads": with_two_threads(everything, kernels, measurements),
        "int8_or_fp32": signs(everything, kernels),
        "interval_90": coverage(pairs),
        "classes": classes(everything, kernels),
        "what_is_forgotten": {"keep_us": grid.keep_us, "by_time": forgetting(everything)},
        "networks": {
            name: {"family": family, "predicted_us": round(made, 1), "measured_us": round(us, 1)}
            for name, (family, made, us) in pairs.items()
        },
    }


def main() -> None:
    """Measure what is missing, print the scores, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--quiet", default="", help="command that runs another undisturbed")
    options = parser.parse_args()
    everything = measure(options.folder, options.quiet)
    started = time.process_time()
    found = evaluate(everything, micro(options.folder, options.quiet))
    record = {"machine": describe(), "fit_and_score_s": round(time.process_time() - started, 1)}
    RESULTS.write_text(json.dumps(record | found, indent=1) + "\n")
    for key, value in found.items():
        if key not in {"networks", "classes", "what_is_forgotten"}:
            print(key, value)


if __name__ == "__main__":
    main()
