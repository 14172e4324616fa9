"""Of the operators that graphopt reports as integer, how many are, on the real runtimes?

Every model of ../shared/data is compiled for x86 with VNNI and for Arm, with the default recipe
and with `integer` (everything that can be integer). Every operator of the result gets a name of its
own; the runtime is asked for the graph that it executes; operators are found again by name. Three
witnesses:

- x86: the onnxruntime that is installed here;
- eligibility on Arm: the same with session.qdqisint8allowed, which is how graphopt itself checks;
- arm64: the arm64 wheel of the same version under QEMU, with default options. Its outputs are
  compared with those of the second witness.

    python benchmarks/arm64_fusion.py [--targets arm64-dotprod] [--without-emulator] [MODEL...]

Exit status 1 when an operator that was reported as integer is not. Nothing is timed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

import graphopt
from arm64_machine import PROCESSORS, Arm64, MachineError, set_up
from graphopt import ir
from graphopt.errors import GraphOptError, LimitError
from graphopt.pipeline import snr_db
from graphopt.runtime import open_session
from graphopt.runtime.census import INTEGER_KERNELS, node_name
from graphopt.testing import named_target
from machine import describe
from peer_models import default_folder
from workloads import Array, Feed, Workload, workloads

if TYPE_CHECKING:
    from graphopt.ir import Graph

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "arm64.json"
X86 = "x86-avx512-vnni"
RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "integer": ("calibration.held-out=0", "limits.min-snr-db=-100"),
}
"""With what they override: `integer` shall not give up because of accuracy."""
EVALUATED = 2
"""Samples per model that both machines run."""
EXACT_DB = 200.0


@dataclass
class Case:
    """One model compiled for one target.

    Args:
        graph: the result, with a name for every operator.
        integer: the names of those that are reported as integer.
        heavy: how many operators the report covers.
    """

    workload: Workload
    target: str
    recipe: str
    graph: Graph
    integer: set[str]
    heavy: int
    feeds: list[Feed]

    def row(self) -> dict[str, object]:
        """Return what is known before anything is checked."""
        return {"heavy": self.heavy, "reported_integer": len(self.integer)}


def compile_case(workload: Workload, target: str, recipe: str, scratch: Path) -> Case:
    """Compile and name: operator number 7 is called `op_7_`, and so are the kernels made of it."""
    data = workload.write_calibration(scratch)
    try:
        compiled = graphopt.compile(
            workload.path,
            target=target,
            data=data,
            recipe=None if recipe == "default" else recipe,
            overrides=RECIPES[recipe],
            measure=False,
        )
    except LimitError as error:
        compiled = cast("graphopt.Compiled", error.compiled)
    graph = compiled.graph.copy()
    reported = {o.node for o in compiled.report.operators if o.execution == "integer"}
    integer = set()
    for number, node in enumerate(graph.walk()):
        tag = f"op_{number}_"
        if node_name(node) in reported:
            integer.add(tag)
        node.name = tag
    heavy = len(compiled.report.operators)
    return Case(workload, target, recipe, graph, integer, heavy, workload.feeds()[:EVALUATED])


def witness(case: Case, executed: Graph) -> dict[str, object]:
    """Compare the reported operators with a graph that a runtime executes."""
    found = set()
    kernels: Counter[str] = Counter()
    for node in executed.walk():
        kernels[node.op] += 1
        tag = re.match(r"op_\d+_", node.name)
        if tag and node.op in INTEGER_KERNELS:
            found.add(tag.group())
    return {
        "integer": len(case.integer & found),
        "missing": sorted(case.integer - found),
        "integer_kernels": {k: n for k, n in sorted(kernels.items()) if k in INTEGER_KERNELS},
        "kernels": sum(kernels.values()),
    }


def check_here(case: Case, scratch: Path) -> tuple[dict[str, object], list[list[Array]]]:
    """Let the installed runtime open the model with the target's rules, and run it."""
    dump = scratch / "executed.onnx"
    session = open_session(case.graph, target=named_target(case.target), dump=dump)
    return witness(case, ir.load(dump)), [session.run(feed) for feed in case.feeds]


def write_job(case: Case, folder: Path) -> dict[str, str]:
    """Write model and feeds for the emulated machine; return the paths."""
    home = folder / f"{case.workload.name}-{case.target}-{case.recipe}"
    home.mkdir()
    names = ("model.onnx", "feeds.npz", "executed.onnx", "outputs.npz")
    model, feeds, dump, outputs = (str(home / name) for name in names)
    ir.save(case.graph, Path(model))
    arrays = {
        f"{i}/{key}": value for i, feed in enumerate(case.feeds) for key, value in feed.items()
    }
    np.savez(feeds, **arrays)  # type: ignore[arg-type]
    return {"model": model, "feeds": feeds, "dump": dump, "outputs": outputs}


def check_there(case: Case, job: dict[str, str], expected: list[list[Array]]) -> dict[str, object]:
    """Read what the emulated machine left behind."""
    with np.load(job["outputs"]) as data:
        found = [
            [data[f"{i}/{position}"] for position in range(len(outputs))]
            for i, outputs in enumerate(expected)
        ]
    here = [one for outputs in expected for one in outputs]
    there = [one for outputs in found for one in outputs]
    return witness(case, ir.load(Path(job["dump"]))) | {
        "outputs_identical": all(map(np.array_equal, here, there)),
        "largest_difference": float(
            max(np.abs(a.astype(np.float64) - b).max() for a, b in zip(here, there, strict=True))
        ),
        "snr_db": round(min(snr_db(here, there), EXACT_DB), 1),
    }


def emulate(
    machine: Arm64, work: list[tuple[Case, dict[str, object], list[list[Array]]]], folder: Path
) -> dict[str, str]:
    """Run all cases of all Arm targets on the emulated machine; fill their rows."""
    facts: dict[str, str] = {}
    for target in sorted({case.target for case, _, _ in work}):
        chosen = [one for one in work if one[0].target == target]
        jobs = [write_job(case, folder) for case, _, _ in chosen]
        facts = machine.run(jobs, PROCESSORS[target], seconds=1800)
        for (case, row, expected), job in zip(chosen, jobs, strict=True):
            row["arm64"] = check_there(case, job, expected)
            print(case.workload.name, target, case.recipe, row["arm64"], flush=True)
    return facts


def measure(options: argparse.Namespace, scratch: Path) -> tuple[list[dict[str, object]], object]:
    """Return a row for every model and target, and what the emulated machine says of itself."""
    rows: list[dict[str, object]] = []
    work = []
    targets = [X86, *options.targets.split(",")]
    recipes = options.recipes.split(",")
    for workload, recipe, target in product(workloads(options.models), recipes, targets):
        names: dict[str, object] = {"model": workload.name, "target": target, "recipe": recipe}
        try:
            case = compile_case(workload, target, recipe, scratch)
        except GraphOptError as error:
            rows.append(names | {"error": str(error)})
            print(rows[-1], flush=True)
            continue
        here, outputs = check_here(case, scratch)
        row = names | case.row() | {"x86" if target == X86 else "eligible": here}
        rows.append(row)
        print(row, flush=True)
        if target != X86:
            work.append((case, row, outputs))
    if options.without_emulator:
        return rows, "not asked for"
    try:
        return rows, emulate(set_up(options.folder.resolve()), work, scratch)
    except MachineError as error:
        return rows, f"not available: {error}"


def holds(row: dict[str, object]) -> bool:
    """Return whether every witness found every reported operator."""
    seen = [row[name] for name in ("x86", "eligible", "arm64") if name in row]
    return bool(seen) and all(isinstance(one, dict) and not one["missing"] for one in seen)


def summarise(rows: list[dict[str, object]], emulator: object) -> dict[str, object]:
    """Return how many operators were reported and found, per witness."""
    summary: dict[str, object] = {"emulator": emulator}
    for name in ("x86", "eligible", "arm64"):
        seen = [(row, row[name]) for row in rows if name in row]
        summary[name] = {
            "compiles": len(seen),
            "reported": sum(int(str(row["reported_integer"])) for row, _ in seen),
            "found": sum(one["integer"] for _, one in seen if isinstance(one, dict)),
        }
    summary["holds"] = all(holds(row) for row in rows)
    return summary


def main() -> None:
    """Check, print, write; exit 1 when a reported operator is not executed as reported."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--targets", default="arm64-dotprod", help="of " + ", ".join(PROCESSORS))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--without-emulator", action="store_true", help="eligibility only")
    folder = default_folder().with_name("graphopt-arm64")
    parser.add_argument("--folder", type=Path, default=folder, help="of the emulated machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows, emulator = measure(options, Path(name))
    summary = summarise(rows, emulator)
    print(json.dumps(summary, indent=1))
    if not options.models:
        content = {"machine": describe(), "summary": summary, "rows": rows}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(0 if summary["holds"] else 1)


if __name__ == "__main__":
    main()
