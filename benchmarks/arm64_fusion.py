"""Of the operators that graphopt reports as integer, how many are, on the real runtimes?

Every model of ../shared/data is compiled for x86 with VNNI and for Arm, with the default recipe
and with `integer` (everything that can be integer). Every operator of the result gets a name of its
own; the runtime is asked for the graph that it executes; operators are found again by name. An
MatMulNBits counts as integer where the same product, alone on the same machine, differs from float
as much as activations in 8 bits do. Three witnesses:

- x86: the onnxruntime that is installed here;
- eligibility on Arm: the same with session.qdqisint8allowed, which is how graphopt itself checks;
- arm64: the arm64 wheel of the same version under QEMU, with default options. Its outputs are
  compared with those of the second witness, also for each operator that graphopt's passes write.

    python benchmarks/arm64_fusion.py [--targets arm64-dotprod] [--without-emulator] [MODEL...]

Exit status 1 when an operator that was reported as integer is not. Nothing is timed.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import graphopt
from arm64_machine import PROCESSORS, Arm64, MachineError, set_up
from arm64_operators import (
    OPERATORS,
    ROUNDED,
    Packing,
    operator_graph,
    packing_of,
    rounding,
)
from graphopt import ir
from graphopt.errors import GraphOptError, LimitError
from graphopt.pipeline import snr_db
from graphopt.runtime import INTEGER_KERNELS, open_session
from graphopt.testing import named_target, random_feeds
from machine import describe
from peer_models import default_folder
from workloads import Array, Feed, Workload, workloads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.ir import Graph

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "arm64.json"
X86 = "x86-avx512-vnni"
RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "integer": ("calibration.held-out=0", "limits.min-snr-db=-100"),
    "weight-only": (),
}
"""With what they override: `integer` shall not give up because of accuracy."""
LANGUAGE = "stories"
"""Only models that are called so are compiled with the recipe `weight-only`."""
EVALUATED = 2
"""Samples per model that both machines run."""
EXACT_DB = 200.0
AGREES_DB = 80.0
"""What single operators have to reach: the rounding of float32 leaves 115 dB and more."""


@dataclass
class Case:
    """One model compiled for one target.

    Args:
        graph: the result, with a name for every operator.
        reported: how the operators are reported to be executed, by their names.
        packings: of the MatMulNBits that the runtime executes here.
    """

    workload: Workload
    target: str
    recipe: str
    graph: Graph
    reported: dict[str, str]
    feeds: list[Feed]
    packings: set[Packing] = field(default_factory=set)

    @property
    def integer(self) -> set[str]:
        """The operators that are reported as integer."""
        return {tag for tag, execution in self.reported.items() if execution == "integer"}

    def row(self) -> dict[str, object]:
        """Return what is known before anything is checked."""
        counts = Counter(self.reported.values())
        return {
            "heavy": len(self.reported),
            "reported_integer": counts["integer"],
            "reported_weight_only": counts["weight-only"],
        }


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
    executions = {o.node: o.execution for o in compiled.report.operators}
    reported = {}
    for number, node in enumerate(graph.walk()):
        name, node.name = node.label, f"op_{number}_"
        if name in executions:
            reported[node.name] = executions[name]
    if len(reported) != len(executions):
        raise AssertionError(f"{workload.name}: an operator that is reported is not in the model")
    return Case(workload, target, recipe, graph, reported, workload.feeds()[:EVALUATED])


def witness(case: Case, executed: Graph, rounded: set[Packing]) -> dict[str, object]:
    """Compare the reported operators with a graph that a runtime executes.

    Args:
        case: the reported operators.
        executed: what the runtime dumped.
        rounded: the packings of MatMulNBits that were seen to round activations there.
    """
    found = set()
    kernels: Counter[str] = Counter()
    for node in executed.walk():
        kernels[node.op] += 1
        tag = re.match(r"op_\d+_", node.name)
        packed = node.op == "MatMulNBits"
        if tag and node.op in INTEGER_KERNELS and (not packed or packing_of(node) in rounded):
            found.add(tag.group())
    return {
        "integer": len(case.integer & found),
        "missing": sorted(case.integer - found),
        "unreported": sorted(found - case.integer),
        "integer_kernels": {k: n for k, n in sorted(kernels.items()) if k in INTEGER_KERNELS},
        "kernels": sum(kernels.values()),
    }


@functools.cache
def rounds_here(packing: Packing) -> bool:
    """Whether the installed runtime rounds activations for a packing."""
    graph = packing.graph()
    return rounding(open_session(graph).run(random_feeds(graph)[0])) > ROUNDED


def check_here(case: Case, scratch: Path) -> tuple[dict[str, object], list[list[Array]]]:
    """Let the installed runtime open the model with the target's rules, and run it."""
    dump = scratch / "executed.onnx"
    session = open_session(case.graph, target=named_target(case.target), dump=dump)
    executed = ir.load(dump)
    case.packings = {packing_of(n) for n in executed.walk() if n.op == "MatMulNBits"}
    rounded = set(filter(rounds_here, case.packings))
    return witness(case, executed, rounded), [session.run(feed) for feed in case.feeds]


def write_job(graph: Graph, given: Sequence[Mapping[str, Array]], home: Path) -> dict[str, str]:
    """Write model and feeds for the emulated machine; return the paths."""
    home.mkdir(parents=True)
    names = ("model.onnx", "feeds.npz", "executed.onnx", "outputs.npz")
    model, feeds, dump, outputs = (str(home / name) for name in names)
    ir.save(graph, Path(model))
    arrays = {f"{i}/{key}": value for i, feed in enumerate(given) for key, value in feed.items()}
    np.savez(feeds, **arrays)  # type: ignore[arg-type]
    return {"model": model, "feeds": feeds, "dump": dump, "outputs": outputs}


def outputs_of(job: dict[str, str], expected: list[list[Any]]) -> list[list[Array]]:
    """Read the outputs that the emulated machine left behind."""
    with np.load(job["outputs"]) as data:
        return [
            [data[f"{i}/{position}"] for position in range(len(outputs))]
            for i, outputs in enumerate(expected)
        ]


def compared(expected: list[list[Array]], found: list[list[Array]]) -> dict[str, object]:
    """Compare the outputs of both machines."""
    here = [one for outputs in expected for one in outputs]
    there = [one for outputs in found for one in outputs]
    return {
        "outputs_identical": all(map(np.array_equal, here, there)),
        "largest_difference": float(
            max(np.abs(a.astype(np.float64) - b).max() for a, b in zip(here, there, strict=True))
        ),
        "snr_db": round(min(snr_db(here, there), EXACT_DB), 1),
    }


class Emulated:
    """The emulated machine and what was found on it."""

    def __init__(self, machine: Arm64, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.facts: dict[str, str] = {}
        self.operators: dict[str, dict[str, object]] = {}

    def run(self, work: list[tuple[Case, dict[str, object], list[list[Array]]]]) -> None:
        """Run all cases of all targets; fill their rows."""
        for target in sorted({case.target for case, _, _ in work}):
            self.operators[target] = self._operators(target)
            chosen = [one for one in work if one[0].target == target]
            rounded = self._rounded(target, {p for case, _, _ in chosen for p in case.packings})
            jobs = [
                write_job(c.graph, c.feeds, self.folder / f"{c.workload.name}-{target}-{c.recipe}")
                for c, _, _ in chosen
            ]
            self._start(jobs, target)
            for (case, row, expected), job in zip(chosen, jobs, strict=True):
                if not Path(job["outputs"]).exists():
                    row["arm64"] = {"error": "does not run", "missing": sorted(case.integer)}
                    continue
                seen = witness(case, ir.load(Path(job["dump"])), rounded)
                row["arm64"] = seen | compared(expected, outputs_of(job, expected))
                print(case.workload.name, target, case.recipe, row["arm64"], flush=True)

    def _operators(self, target: str) -> dict[str, object]:
        """Run every operator that passes write on both machines, and compare."""
        graphs = {name: operator_graph(name) for name in OPERATORS}
        found: dict[str, object] = {}
        for name, outputs in self._alone(graphs, target).items():
            expected = open_session(graphs[name]).run(random_feeds(graphs[name])[0])
            found[name] = compared([expected], [outputs]) if outputs else {"error": "does not run"}
            print(target, name, found[name], flush=True)
        return found

    def _rounded(self, target: str, packings: set[Packing]) -> set[Packing]:
        """Return the packings for which activations are rounded there."""
        named = {str(p): p for p in sorted(packings)}
        outputs = self._alone({name: p.graph() for name, p in named.items()}, target)
        return {
            p for name, p in named.items() if outputs[name] and rounding(outputs[name]) > ROUNDED
        }

    def _alone(self, graphs: dict[str, Graph], target: str) -> dict[str, list[Array]]:
        """Run small models on random inputs; no outputs where one does not run."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            jobs = {
                label: write_job(graph, random_feeds(graph)[:1], Path(name) / str(number))
                for number, (label, graph) in enumerate(graphs.items())
            }
            if jobs:
                self._start(list(jobs.values()), target)
            return {
                label: outputs_of(job, [[None] * len(graphs[label].outputs)])[0]
                if Path(job["outputs"]).exists()
                else []
                for label, job in jobs.items()
            }

    def _start(self, jobs: list[dict[str, str]], target: str) -> None:
        self.facts = self.machine.run(jobs, PROCESSORS[target], seconds=1800)


def measure(
    options: argparse.Namespace, scratch: Path
) -> tuple[list[dict[str, object]], object, dict[str, dict[str, object]]]:
    """Return a row for every model and target, what the emulated machine says, and operators."""
    rows: list[dict[str, object]] = []
    work = []
    targets = [X86, *options.targets.split(",")]
    recipes = options.recipes.split(",")
    for workload, recipe, target in product(workloads(options.models), recipes, targets):
        if recipe == "weight-only" and LANGUAGE not in workload.name:
            continue
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
        return rows, "not asked for", {}
    try:
        emulated = Emulated(set_up(options.folder.resolve()), scratch)
        emulated.run(work)
    except MachineError as error:
        return rows, f"not available: {error}", {}
    return rows, emulated.facts, emulated.operators


def holds(row: dict[str, object]) -> bool:
    """Return whether every witness found every reported operator, and no other."""
    seen = [row[name] for name in ("x86", "eligible", "arm64") if name in row]
    return bool(seen) and all(
        isinstance(one, dict) and not (one.get("error") or one["missing"] or one["unreported"])
        for one in seen
    )


def summarise(
    rows: list[dict[str, object]], emulator: object, operators: dict[str, dict[str, object]]
) -> dict[str, object]:
    """Return how many operators were reported and found, per witness."""
    summary: dict[str, object] = {"emulator": emulator}
    for name in ("x86", "eligible", "arm64"):
        seen = [(row, row[name]) for row in rows if name in row]
        summary[name] = {
            "compiles": len(seen),
            "heavy": sum(int(str(row["heavy"])) for row, _ in seen),
            "reported": sum(int(str(row["reported_integer"])) for row, _ in seen),
            "found": sum(one.get("integer", 0) for _, one in seen if isinstance(one, dict)),
        }
    summary["operators_agree"] = all(
        isinstance(one, dict) and one.get("snr_db", 0.0) > AGREES_DB
        for found in operators.values()
        for one in found.values()
    )
    summary["holds"] = all(holds(row) for row in rows) and summary["operators_agree"]
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
        rows, emulator, operators = measure(options, Path(name))
    summary = summarise(rows, emulator, operators)
    print(json.dumps(summary, indent=1))
    if not options.models:
        content = {
            "machine": describe(),
            "summary": summary,
            "operators": operators,
            "rows": rows,
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    sys.exit(0 if summary["holds"] else 1)


if __name__ == "__main__":
    main()
