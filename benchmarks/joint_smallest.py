"""The smallest models that keep a drop: the part of joint.py that no clock is needed for.

Of every model: the fastest and the smallest within the drop that `graphopt search` finds by the
estimate, their size, and what both lose on the half of the samples that no search has seen.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import graphopt
from graphopt.runtime import open_session
from joint_data import asked, search_file, tested
from peer_quality import Judge, Quality, acceptable, loss
from peers import TEN, geometric_mean
from workloads import Workload, workloads

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

LEAST_SMALLER = 4.0
PICKS = ("fastest", "smallest")


def run(
    options: argparse.Namespace, folder: Path, machine: dict[str, object], results: Path
) -> bool:
    """Search, judge, print and write; return whether the bar is kept."""
    rows = []
    wanted = workloads(options.models or list(TEN))
    for workload in sorted(wanted, key=lambda w: w.path.stat().st_size):
        rows.append(row(workload, options, folder))
        print(json.dumps(rows[-1]), flush=True)
        summary = summarise(rows)
        if not options.models:
            left = [name for name in TEN if name not in {r["model"] for r in rows}]
            content = {"outstanding": left, "summary": summary, "rows": rows}
            results.write_text(json.dumps({"machine": machine, **content}, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    return bool(summary["bars"][f"smaller >= {LEAST_SMALLER}"])


def row(workload: Workload, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return size and loss of the fastest and the smallest model."""
    data = search_file(workload, folder)
    told = asked(workload)
    if "max_drop" in told and workload.metric != "psnr_db":
        told["max_drop"] = options.drop
    judge = Judge(tested(workload), folder / "quality-of-half")
    before = judge.judge(workload.path, open_session(workload.path))
    found: dict[str, Any] = {}
    for pick in PICKS:
        made = graphopt.search(
            workload.path,
            data=data,
            target="host",
            effort=options.effort,
            folder=folder / "searches" / f"{workload.name}.{options.effort}.{options.drop}.sizes",
            measure=False,
            seconds=3600.0,
            **{**told, "pick": pick},
        )
        path = folder / f"{workload.name}.{options.drop}.{pick}.onnx"
        made.compiled.save(path, search=made.record)
        found[pick] = facts(workload, made, path, before, judge)
    return {"model": workload.name, "original": workload.path.stat().st_size, **found}


def facts(
    workload: Workload, made: graphopt.api.Found, path: Path, before: Quality, judge: Judge
) -> dict[str, Any]:
    """Return what is reported of one pick."""
    quality = judge.judge(path, open_session(path))
    lost = loss(before, quality)
    chosen = next(p for p in made.record.points if p.chosen)
    score = chosen.score
    return {
        "picked": chosen.label,
        "size": path.stat().st_size,
        "smaller": round(workload.path.stat().st_size / path.stat().st_size, 2),
        "estimated_speed": None if chosen.speedup is None else round(chosen.speedup, 2),
        "drop_on_validation": None if score is None else round(score.drop, 3),
        "expected": None if score is None or score.expected is None else round(score.expected, 3),
        "drop": round(lost.drop, 3),
        "interval": [round(b, 3) for b in lost.interval] if lost.interval else None,
        "snr_db": round(quality.snr_db, 1) if math.isfinite(quality.snr_db) else None,
        "acceptable": acceptable(before, quality),
        "tried": len(made.record.points),
        "seconds": round(made.record.seconds, 1),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the geometric means, and the bar."""
    means = {
        f"geomean_smaller_{pick}": round(geometric_mean([r[pick]["smaller"] for r in rows]), 2)
        for pick in PICKS
    }
    lossy = [r["model"] for r in rows if not r["smallest"]["acceptable"]]
    kept = means["geomean_smaller_smallest"] >= LEAST_SMALLER
    return means | {
        "lost_more_than_allowed": lossy,
        "bars": {f"smaller >= {LEAST_SMALLER}": kept, "none lost more than allowed": not lossy},
    }
