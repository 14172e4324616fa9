"""Prune first or quantize first: which int8 model is more accurate at the same time?

ResNet-20, at most 1,000 unlabelled images, one thread. "prune-first": `--prune-to` a share of the
float model's time, then int8 on top; "quantize-first": a share of the int8 model's time, each
option priced by what it saves between integers. Goals are steps apart, so that the two rows of
points can be laid over each other. Top-1 is on the whole dev test, which nothing else sees. All
models run in one race: one thread, shuffled order in every round, sessions opened anew for every
repetition; speeds are medians over rounds of latency(int8) / latency(model), and `int8 again` is
what the clock is worth.

    python benchmarks/pruning_orders.py [--make NAME] [--seconds 15] [--repeat 3] [--folder DIR]

--make only makes one model, such as "quantize-first 0.75x": options are timed while it is made, so
the machine should be idle. Writes benchmarks/results/pruning_orders.json; exit status 1 where at
the time of some quantize-first model no prune-first model is less accurate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.runtime import open_session
from machine import describe
from peer_models import default_folder
from peer_quality import Judge, loss
from pruning import Field, raced, rounded
from pruning_bars import SUBJECTS
from pruning_contenders import Workshop
from workloads import workloads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pruning_contenders import Made

NAME = "cifar10_resnet20_jpegft"
GOALS = {"prune-first": ("0.75x", "0.55x"), "quantize-first": ("0.85x", "0.7x")}
FLOAT, INTEGER, CONTROL = "fp32", "int8", "int8 again"
RESULTS = Path(__file__).parent / "results" / "pruning_orders.json"

Row = dict[str, Any]


def row_of(made: Made) -> Row:
    """Return what the compile said of a model."""
    record = made.report["pruning"]
    return {
        "goal": record["goal"],
        "divergence": round(record["divergence"], 4),
        "orders": record["orders"],
        "removed": [f"{s['name']} {s['before'] or ''} -> {s['after']}" for s in record["sites"]],
        "seconds": made.seconds,
        "cpu_seconds": made.cpu_seconds,
    }


def holds(rows: Mapping[str, Row]) -> dict[str, bool]:
    """Return, by quantize-first model that pays, whether prune-first loses more at its time.

    Between two prune-first models the accuracy is taken on the line from one to the other; where
    none is as fast, the comparison is won.
    """
    ours = {n: r for n, r in rows.items() if n.startswith("quantize-first")}
    found = {}
    for name, row in ours.items():
        other = on_line(rows, row["speed_over_int8"])
        found[name] = other is None or row["top1"] > other
    return found


def on_line(rows: Mapping[str, Row], speed: float) -> float | None:
    """Return the top-1 that prune-first has at a speed, int8 alone being its first point."""
    points = sorted(
        (row["speed_over_int8"], row["top1"])
        for name, row in rows.items()
        if name.startswith("prune-first") or name == INTEGER
    )
    for (slow, high), (fast, low) in itertools.pairwise(points):
        if slow <= speed <= fast:
            return float(high + (low - high) * (speed - slow) / max(fast - slow, 1e-9))
    return None


def measured(shop: Workshop, options: argparse.Namespace) -> Row:
    """Make, judge and race all models."""
    workload = shop.workload
    (subject,) = (s for s in SUBJECTS if s.name == NAME)
    field = Field(subject)
    field.add(FLOAT, workload.path)
    alone = shop.quantized(workload.path)
    for name in (INTEGER, CONTROL):
        field.add(name, alone.path, alone.reason)
    for order, goals in GOALS.items():
        for goal in goals:
            made = shop.ordered(order, f"latency={goal}")
            facts = row_of(made) if made.path is not None else {}
            field.add(f"{order} {goal}", made.path, made.reason, **facts)
    judge = Judge(workload, options.folder / "pruning" / "quality")
    quality = {n: judge.judge(path, open_session(path)) for n, path in field.files.items()}
    result = raced(field, workload, options.seconds, options.repeat)
    rows: dict[str, Row] = {}
    for name in field.files:
        lost = loss(quality[FLOAT], quality[name])
        rows[name] = {
            "top1": round(quality[name].score, 3),
            "drop": round(lost.drop, 3),
            "interval": rounded(lost.interval),
            "speed_over_int8": round(result.speedup(name, INTEGER), 3),
            "speed_over_int8_minima": round(result.speedup_of_minima(name, INTEGER), 3),
            "speed": round(result.speedup(name, FLOAT), 3),
            **field.facts[name],
        }
    return {"machine": describe(), "model": NAME, "contenders": rows, "failed": field.failed}


def show(rows: Mapping[str, Row]) -> None:
    """Print the table."""
    print("| model | top-1 | lost (95 %) | over int8 (minima) | over fp32 |")
    print("|---|--:|--:|--:|--:|")
    for name, row in rows.items():
        lost = f"{row['drop']} {row['interval']}"
        faster = f"{row['speed_over_int8']} ({row['speed_over_int8_minima']})"
        print(f"| {name} | {row['top1']} | {lost} | {faster} | {row['speed']} |")


def main() -> None:
    """Make one model, or measure all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--make", metavar="NAME", help="such as 'quantize-first 0.75x'")
    parser.add_argument("--seconds", type=float, default=15.0, help="of one race")
    parser.add_argument("--repeat", type=int, default=3, help="races")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="kept between runs")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    (workload,) = workloads([NAME])
    (subject,) = (s for s in SUBJECTS if s.name == NAME)
    shop = Workshop(subject, workload, options.folder / "pruning")
    if options.make:
        order, goal = options.make.split()
        made = shop.ordered(order, f"latency={goal}")
        print(made.reason or made.path)
        return
    record = measured(shop, options)
    record["more accurate at its time"] = holds(record["contenders"])
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    show(record["contenders"])
    print(record["more accurate at its time"], record["failed"])
    sys.exit(0 if all(record["more accurate at its time"].values()) else 1)


if __name__ == "__main__":
    main()
