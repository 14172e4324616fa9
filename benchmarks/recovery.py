"""What each way to win accuracy back is worth: every operator integer, with each and with all.

All models of ../shared/data, quantized wherever the target can run integers, are compared with
their float originals on samples that calibration did not see: signal-to-noise ratio of the outputs,
change of the metric with its 95 % interval (paired), and how often the two agree on the class.

    python benchmarks/recovery.py [--targets x86-avx512-vnni,arm] [--limit 500] [MODEL...]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

import graphopt
from graphopt.errors import GraphOptError
from graphopt.pipeline import snr_db
from graphopt.runtime import Session, open_session
from machine import describe
from workloads import Array, Workload, enhance, scores, si_sdr_db, speech, workloads

RESULTS = Path(__file__).parent / "results" / "recovery.json"
BEFORE = ("rotate-matmuls", "smooth-activations", "equalize-layers")
VARIANTS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "none": ((), "", ""),
    "rotate": (("rotate-matmuls",), "", ""),
    "smooth": (("smooth-activations",), "", ""),
    "equalize": (("equalize-layers",), "", ""),
    "mse scales": ((), 'scales = "mse"', ""),
    "learned": ((), 'rounding = "learned"', ""),
    "bias, analytic": ((), "", 'method = "analytic"'),
    "bias, empirical": ((), "", 'method = "empirical"'),
    "recipe": (("rotate-matmuls", "equalize-layers"), 'rounding = "learned"', ""),
    "all": (BEFORE, 'rounding = "learned"\nscales = "mse"', 'method = "empirical"'),
}
"""Passes before calibration, options of insert-qdq, options of correct-bias after it."""


def recipe(folder: Path, name: str) -> Path:
    """Write the preset `integer` with the passes of one variant, and nothing else that recovers."""
    before, options, bias = VARIANTS[name]
    text = (files("graphopt") / "recipes" / "integer.toml").read_text(encoding="utf-8")
    head, *passes = re.split(r"^\[\[passes\]\]$", text, flags=re.MULTILINE)
    kept = [p for p in passes if not any(f'"{b}"' in p for b in (*BEFORE, "correct-bias"))]
    parts = [head]
    for part in kept:
        if '"calibrate"' in part:
            parts += [f'\nuse = "{b}"\n' for b in before]
        if '"insert-qdq"' in part:
            part = re.sub(r"^(rounding|scales) .*$", "", part, flags=re.MULTILINE)
            part = f"{part.rstrip()}\n{options}\n"
        parts.append(part)
    if bias:
        parts.append(f'\nuse = "correct-bias"\n{bias}\n')
    path = folder / f"{name.replace(', ', '-').replace(' ', '-')}.toml"
    path.write_text("[[passes]]".join(parts), encoding="utf-8")
    return path


def compared(workload: Workload, wanted: list[Array], found: list[Array]) -> dict[str, object]:
    """Return noise, change of the metric, and agreement."""
    row: dict[str, object] = {"snr_db": round(snr_db(wanted, found), 2), "n": len(found)}
    labels = workload.labels()
    if workload.metric == "top1":
        same = [a.argmax() == b.argmax() for a, b in zip(wanted, found, strict=True)]
        row["agreement"] = round(100 * float(np.mean(same)), 2)
    if labels is None:
        return row
    unit = 1.0 if workload.metric.endswith("_db") else 100.0
    cut = labels[: len(found)]
    drop = (scores(workload, wanted, cut) - scores(workload, found, cut)) * unit
    half = 1.96 * float(drop.std(ddof=1)) / len(drop) ** 0.5
    return row | {"drop": round(float(drop.mean()), 3), "half_interval": round(half, 3)}


def measure(
    workload: Workload, target: str, name: str, folder: Path, limit: int
) -> tuple[dict[str, object], Session]:
    """Compile one variant and compare it."""
    started = time.perf_counter()
    compiled = graphopt.compile(
        workload.path,
        target=target,
        data=workload.write_calibration(folder),
        recipe=recipe(folder, name),
        measure=False,
        overrides=("limits.min-snr-db=-100",),
    )
    seconds = time.perf_counter() - started
    session = compiled.session()
    original = open_session(workload.path)
    feeds = workload.feeds()[:limit]
    pairs = [(original.run(feed)[0], session.run(feed)[0]) for feed in feeds]
    row = compared(workload, [a for a, _ in pairs], [b for _, b in pairs])
    executed = [o.execution for o in compiled.report.operators]
    lost = [p.name for p in compiled.report.passes if p.status == "rolled back"]
    row |= {"integer": executed.count("integer"), "heavy": len(executed)}
    return row | {"seconds": round(seconds, 2), "rolled_back": lost}, session


def enhancement(pair: dict[str, Session]) -> dict[str, object]:
    """Return how much SI-SDR the DTLN pair loses, in dB."""
    clean, noisy = speech()
    originals = [open_session(next(workloads([n])).path) for n in sorted(pair)]
    compiled = [pair[n] for n in sorted(pair)]
    before, after = (
        si_sdr_db(clean, enhance(one.run, two.run, noisy)) for one, two in (originals, compiled)
    )
    return {"model": "dtln (both models)", "drop": round(before - after, 3)}


def main() -> None:
    """Measure every variant, print rows, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--targets", default="x86-avx512-vnni,arm")
    parser.add_argument("--variants", default=",".join(v.replace(", ", "+") for v in VARIANTS))
    parser.add_argument("--limit", type=int, default=500)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for target in arguments.targets.split(","):
            for variant in (v.replace("+", ", ") for v in arguments.variants.split(",")):
                pair: dict[str, Session] = {}
                for workload in workloads(arguments.models):
                    row: dict[str, object] = {"target": target, "variant": variant}
                    row["model"] = workload.name
                    try:
                        found, session = measure(
                            workload, target, variant, Path(name), arguments.limit
                        )
                    except GraphOptError as error:
                        found = {"error": str(error)}
                    else:
                        if workload.name.startswith("dtln"):
                            pair[workload.name] = session
                    rows.append(row | found)
                    print(json.dumps(rows[-1]), flush=True)
                if len(pair) == 2:
                    rows.append({"target": target, "variant": variant} | enhancement(pair))
                    print(json.dumps(rows[-1]), flush=True)
    if not arguments.models:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"machine": describe(), "rows": rows}, indent=1) + "\n")
    sys.exit(1 if any("error" in row for row in rows) else 0)


if __name__ == "__main__":
    main()
