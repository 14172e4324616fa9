"""How good and how fast is the memory planner: on hard placement problems, and on networks?

Usage: memory_planner.py [--folder DIR]

MiniMalloc's eleven instances (each has a solution of 1,048,576 bytes; three of them turn out to
have lower ones) against the greedy planners of TFLite Micro (by size) and onnxruntime (by time,
best fit), against the planner without its parts, and on generated instances of known optimum that
nothing was chosen on. Then networks: those of ../shared/data, ncnn's definitions, and with --folder
exported ONNX files below DIR: what is alive at once in the order of the file, what the planner
needs in that order and in its own, and what no order can do without.

Bars: mean height over the eleven at most 1.05, under 1 s each; on networks with the given order the
plan equals the bound. Exit status 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from graphopt.cost.planning import Interval, lower_bound, place, plan_execution, plan_memory
from graphopt.cost.planning.beam import BeamSearch, Strategy
from graphopt.cost.planning.greedy import by_area, by_size, by_time, height, place_in_order
from graphopt.cost.planning.intervals import parts
from graphopt.ir import load
from graphopt.targets import builtin_targets
from machine import describe
from memory_instances import CAPACITY, cut_block, published
from memory_networks import ncnn_execution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.cost.planning import MemoryPlan, Placement
    from graphopt.cost.planning.beam import States
    from graphopt.cost.planning.intervals import Ints

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results" / "memory_planner.json"
BAR, SECONDS = 1.05, 1.0
TARGET = "cortex-m7"
GENERATED = [(count, seed) for count in (100, 200, 400) for seed in range(5)]


class Blind(BeamSearch):
    """The same beam without a look at what is buried: what is left is stacked on the tops."""

    def finished_heights(self, states: States) -> Ints:
        """Return the tops with what is left on them."""
        return states.tops + states.left


def main() -> int:
    """Measure everything, write the results; return 1 when a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, help="exported ONNX models, searched recursively")
    folder = arguments.parse_args().folder
    instances = {p.stem: published(p) for p in sorted((SHARED / "memory").glob("*.csv"))}
    hard = {name: hard_row(one) for name, one in instances.items()}
    generated = {f"{n} pieces, seed {s}": known_row(cut_block(n, s)) for n, s in GENERATED}
    networks = network_rows(folder)
    misses = missed(hard, networks)
    means = {key: round(fmean(row[key] for row in hard.values()), 4) for key in MEASURES}
    report = {
        "machine": describe(),
        "bars": {"mean": BAR, "seconds": SECONDS, "missed": misses},
        "hard_mean": means,
        "hard": hard,
        "generated_mean": {
            k: round(fmean(r[k] for r in generated.values()), 4) for k in ("planner", "by_size")
        },
        "generated": generated,
        "networks": networks,
    }
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(means, indent=1), report["generated_mean"], *misses, sep="\n")
    return 1 if misses else 0


def hard_row(intervals: list[Interval]) -> dict[str, float]:
    """Return heights relative to the capacity, and seconds."""
    started = time.perf_counter()
    found = place(intervals, seconds=SECONDS)
    seconds = time.perf_counter() - started
    check(intervals, found)
    row = {"planner": found.height / CAPACITY, "planner_to_bound": found.height / found.bound}
    row |= {name: measure(intervals) / CAPACITY for name, measure in RIVALS.items()}
    row = {name: round(value, 4) for name, value in row.items()}
    return row | {"seconds": round(seconds, 3), "buffers": len(intervals)}


def known_row(intervals: list[Interval]) -> dict[str, float]:
    """Return heights relative to the optimum, which is the bound, and seconds."""
    started = time.perf_counter()
    found = place(intervals, seconds=SECONDS)
    seconds = time.perf_counter() - started
    check(intervals, found)
    by = in_order(by_size)(intervals)
    return {
        "planner": round(found.height / found.bound, 4),
        "by_size": round(by / found.bound, 4),
        "seconds": round(seconds, 3),
    }


def in_order(order: Callable[[Sequence[Interval]], list[int]], fit: str = "first"):
    """Return the measure of a greedy placement."""

    def measure(intervals: Sequence[Interval]) -> int:
        return height(intervals, place_in_order(intervals, order(intervals), fit))

    return measure


def one_beam(kind: type[BeamSearch], **options: int):
    """Return the measure of the mean over strategies of one beam each."""

    def measure(intervals: Sequence[Interval]) -> float:
        cut = parts(intervals)
        heights = []
        for first in ("small", "large-long", "size", "area", "long-large"):
            strategy = Strategy(first, "fullest", **options)
            found = [(kind(p, strategy).run(1 << 40, lambda: False), p.unit) for p in cut]
            heights.append(max(one[0] * unit for one, unit in found if one is not None))
        return fmean(heights)

    return measure


def shuffled_orders(intervals: Sequence[Interval]) -> int:
    """Return the lowest first fit over orders near by-size, for as long as the planner may take."""
    end = time.perf_counter() + SECONDS
    random = np.random.default_rng(0)
    sizes = np.array([one.size for one in intervals])
    best = in_order(by_size)(intervals)
    while time.perf_counter() < end:
        order = np.argsort(-sizes * random.uniform(0.5, 1.5, len(sizes)), kind="stable").tolist()
        best = min(best, height(intervals, place_in_order(intervals, order)))
    return best


RIVALS = {
    "bound": lower_bound,
    "tflite_micro_by_size": in_order(by_size),
    "by_area": in_order(by_area),
    "onnxruntime_by_time_best_fit": in_order(by_time, "best"),
    "by_size_shuffled_1s": shuffled_orders,
    "one_greedy_without_look_ahead": one_beam(Blind, width=1),
    "one_beam_without_look_ahead": one_beam(Blind),
    "one_greedy": one_beam(BeamSearch, width=1),
    "one_beam": one_beam(BeamSearch),
}
MEASURES = ("planner", "planner_to_bound", "seconds", *RIVALS)


def check(intervals: Sequence[Interval], found: Placement) -> None:
    """Fail where two intervals that are alive together overlap."""
    spans = zip(intervals, found.offsets, strict=True)
    for (a, low), (b, other) in combinations(spans, 2):
        together = a.lower < b.upper and b.lower < a.upper
        assert not (together and low < other + b.size and other < low + a.size), (a, b)


def network_rows(folder: Path | None) -> dict[str, dict[str, object]]:
    """Return what every network needs, in the given order and in the planner's."""
    target = next(one for one in builtin_targets() if one.name == TARGET)
    rows: dict[str, dict[str, object]] = {}
    for path in sorted((SHARED / "latency" / "ncnn").glob("*.param")):
        execution = ncnn_execution(path)
        kept = plan_execution(execution, reorder=False)
        rows[f"ncnn {path.stem}"] = network_row(kept, lambda e=execution: plan_execution(e))
    paths = sorted((SHARED / "models").glob("*.onnx"))
    paths += sorted(folder.rglob("*.onnx")) if folder else []
    for path in paths:
        graph = load(path)
        kept = plan_memory(graph, target, reorder=False)
        rows[path.stem] = network_row(kept, lambda g=graph: plan_memory(g, target))
    return rows


def network_row(kept: MemoryPlan, replan: Callable[[], MemoryPlan]) -> dict[str, object]:
    """Return bytes; ``by_size`` and ``by_time`` place the same buffers greedily."""
    started = time.perf_counter()
    free = replan()
    seconds = time.perf_counter() - started
    intervals = [Interval(b.first, b.last + 1, b.nbytes) for b in kept.buffers]
    return {
        "steps": len(kept.steps),
        "bound": kept.lower_bound,
        "planned": kept.peak_bytes,
        "reordered": free.peak_bytes,
        "hungriest_step": kept.step_bytes,
        "known_to_be_best": free.is_optimal,
        "by_size": in_order(by_size)(intervals),
        "by_time": in_order(by_time, "best")(intervals),
        "peak_at": free.peak_at,
        "seconds": round(seconds, 3),
    }


def missed(hard: dict[str, dict[str, float]], networks: dict[str, dict[str, object]]) -> list[str]:
    """Return the bars that are missed, in words."""
    found = []
    mean = fmean(row["planner"] for row in hard.values())
    if mean > BAR:
        found.append(f"mean height {mean:.4f} is above {BAR}")
    found += [f"{n} took {r['seconds']} s" for n, r in hard.items() if r["seconds"] >= SECONDS]
    found += [f"{n}: plan above its bound" for n, r in networks.items()
              if r["planned"] != r["bound"]]  # fmt: skip
    return found


if __name__ == "__main__":
    sys.exit(main())
