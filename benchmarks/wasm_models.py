"""Models compiled for `wasm`, run by onnxruntime-web under node: outputs, and time against fp32.

Every model of ../shared/data is compiled for the target with the default recipe and with `integer`
(the decoder also with `weight-only`). node runs the original and the results in turn, one thread;
outputs are compared with those of the native runtime on the same files, which must agree within
rounding. Reported is the median over rounds of the ratio of times, so that noise hits both sides.

    python benchmarks/wasm_models.py [--rounds 9] [--folder FOLDER] [MODEL...]

Exit status 1 when an output disagrees, or when what the default recipe made is slower than its
original by more than 3 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import graphopt
from graphopt import ir
from graphopt.errors import GraphOptError, LimitError
from graphopt.pipeline import snr_db
from graphopt.runtime import open_session
from machine import describe
from peer_models import default_folder
from wasm_machine import Job, Wasm, WasmError, set_up
from workloads import Array, Workload, workloads

if TYPE_CHECKING:
    from wasm_machine import Answer

RESULTS = Path(__file__).parent / "results" / "wasm.json"
ORIGINAL = "original"
RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "integer": ("calibration.held-out=0", "limits.min-snr-db=-100"),
    "weight-only": (),
}
LANGUAGE = "stories"
FEEDS = 2
AGREES_DB = 60.0
"""The rounding of float32 in another order of sums leaves more; a wrong kernel leaves much less."""
SLOWER = 1.03


def compiled(workload: Workload, folder: Path) -> dict[str, ir.Graph]:
    """Return the original and what each recipe makes of it."""
    found = {ORIGINAL: ir.load(workload.path)}
    data = workload.write_calibration(folder)
    for recipe, overrides in RECIPES.items():
        if recipe == "weight-only" and not workload.name.startswith(LANGUAGE):
            continue
        try:
            result = graphopt.compile(
                workload.path,
                target="wasm",
                data=data,
                recipe=None if recipe == "default" else recipe,
                overrides=overrides,
                measure=False,
            )
        except LimitError as error:
            result = cast("graphopt.Compiled", error.compiled)
        found[recipe] = result.graph
    return found


def row(workload: Workload, machine: Wasm, rounds: int) -> dict[str, Any]:
    """Return what one model gives in WebAssembly."""
    feeds = workload.feeds()[:FEEDS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs = compiled(workload, folder)
        jobs = []
        for recipe, graph in graphs.items():
            file = folder / f"{recipe}.onnx"
            ir.save(graph, file)
            jobs.append(Job(recipe, file, feeds, workload.name))
        _, answers = machine.run(jobs, folder / "node", rounds=rounds)
        found: dict[str, Any] = {"model": workload.name}
        for recipe, graph in graphs.items():
            session = open_session(without_rounding(graph))
            expected = [session.run(feed) for feed in feeds]
            found[recipe] = judged(answers[recipe], expected, answers[ORIGINAL])
            found[recipe]["bytes"] = (folder / f"{recipe}.onnx").stat().st_size
    return found


def without_rounding(graph: ir.Graph) -> ir.Graph:
    """Return ``graph`` with packed products in float: only natively do they round activations."""
    plain = graph.copy()
    for node in plain.nodes("MatMulNBits"):
        node.set_attribute("accuracy_level", 0)
    return plain


def judged(answer: Answer, expected: list[list[Array]], original: Answer) -> dict[str, Any]:
    """Return how far outputs agree with the native runtime's, and the speed against fp32."""
    if answer.failed:
        return {"failed": answer.failed}
    here = [one for outputs in expected for one in outputs]
    there = [one for outputs in answer.outputs for one in outputs]
    ratios = [a / b for a, b in zip(original.milliseconds, answer.milliseconds, strict=True)]
    return {
        "identical": all(map(np.array_equal, here, there)),
        "snr_db": round(min(snr_db(here, there), 200.0), 1),
        "ms": round(statistics.median(answer.milliseconds), 4),
        "times_faster": round(statistics.median(ratios), 3),
    }


def faults(rows: list[dict[str, Any]]) -> list[str]:
    """Return what does not hold."""
    found = []
    for entry in rows:
        for recipe in {ORIGINAL, *RECIPES} & entry.keys():
            result = entry[recipe]
            if "failed" in result:
                found.append(f"{entry['model']} {recipe}: {result['failed']}")
            elif result["snr_db"] < AGREES_DB:
                found.append(f"{entry['model']} {recipe}: outputs differ, {result['snr_db']} dB")
        default = entry["default"]
        if default.get("times_faster", 1.0) * SLOWER < 1:
            found.append(f"{entry['model']}: {default['times_faster']} times as fast as fp32")
    return sorted(found)


def show(entry: dict[str, Any]) -> None:
    """Print one line per recipe."""
    for recipe in (ORIGINAL, *RECIPES):
        if recipe in entry:
            cells = " ".join(f"{key} {value}" for key, value in entry[recipe].items())
            print(f"{entry['model']:32s} {recipe:12s} {cells}", flush=True)


def main() -> int:
    """Run, print, write the results; say what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=default_folder() / "wasm")
    arguments = parser.parse_args()
    machine_facts = describe()
    try:
        machine = set_up(arguments.folder)
    except WasmError as error:
        print(f"onnxruntime-web cannot be had: {error}", file=sys.stderr)
        return 2
    rows = []
    for workload in workloads(arguments.models):
        try:
            rows.append(row(workload, machine, arguments.rounds))
        except GraphOptError as error:
            print(f"{workload.name}: {error}", file=sys.stderr)
            continue
        show(rows[-1])
    wrong = faults(rows)
    print("\n".join(wrong) or "everything holds")
    if not arguments.models:
        content = {"machine": machine_facts, "rounds": arguments.rounds, "rows": rows}
        RESULTS.write_text(json.dumps(content | {"faults": wrong}, indent=1) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
