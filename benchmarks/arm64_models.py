"""Does a model that was compiled for Arm compute there what it computes here?

Every model of ../shared/data is compiled for `arm`, with the default recipe and with `integer`
(everything that can be integer). onnxruntime's arm64 wheel runs the result under QEMU, the
installed wheel runs it here with the session entries of the target. Compared are:

- outputs: equal bit by bit where no kernel of the executed graph computes in float (Q and DQ at
  the ends are no computing); otherwise the largest difference relative to the largest output, and
  for classifiers whether the same class wins;
- where integer models differ: every integer tensor, to find the kernels that give different results
  for equal inputs. QLinearAdd, which rescales in float inside, may differ by one step; matrix
  products, convolutions and all others may not;
- the executed graph of the arm64 wheel with graphopt's own fusion tables for the target: kernels
  of equal name, class, arithmetic and matrix product, copies between layouts among them.

    python benchmarks/arm64_models.py [--processor T] [--recipes R,...] [--folder PATH] [MODEL...]

Exit status 1 when a model differs in another way than these, or by more than CLOSE. Nothing is
timed. When models are named, their rows replace those of the results.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arm64_fusion import EVALUATED, Case, compile_case, outputs_of, write_job
from arm64_machine import PROCESSORS, Arm64, MachineError, set_up
from graphopt import ir
from graphopt.cost import group_kernels
from graphopt.cost.executed import kernels_of_optimized
from graphopt.cost.layout import in_execution_order
from graphopt.cost.shapes import sized
from graphopt.cost.work import product_of
from graphopt.errors import GraphOptError
from graphopt.runtime import fill_shapes, open_session
from graphopt.testing import named_target
from graphopt.types import DType
from machine import describe
from peer_models import default_folder
from workloads import SHARED, Array, workloads

__all__ = ["SHARED", "MachineError", "check", "compile_case", "default_machine", "difference",
           "float_kernels", "set_up", "workloads"]  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost import Kernel
    from graphopt.ir import Graph, Value
    from graphopt.targets import Target

RESULTS = Path(__file__).parent / "results" / "arm64_models.json"
RECIPES = ("default", "integer")
CLOSE = 0.05
"""Largest difference, relative to the largest output, of models with float kernels between integer
ones: where a float differs in its last bit, an integer after it may differ by one step."""

RESCALING = frozenset({"QLinearAdd"})
"""Integer kernels that were seen to differ by a step: they rescale and round in float."""

_INTEGERS = frozenset({DType.INT8, DType.UINT8})
_NO_ARITHMETIC = frozenset({"movement", "quantize", "gather"})


def default_machine() -> Path:
    """Return the folder of the emulated machine unless told otherwise."""
    given = os.environ.get("GRAPHOPT_ARM64")
    return Path(given) if given else default_folder().with_name("graphopt-arm64")


def float_kernels(kernels: Sequence[Kernel]) -> Counter[str]:
    """Return the kernels that compute in float, by name and how often."""
    return Counter(k.name for k in kernels if k.dtype != "int8" and k.kind not in _NO_ARITHMETIC)


def difference(here: Sequence[Sequence[Array]], there: Sequence[Sequence[Array]]) -> dict[str, Any]:
    """Compare the outputs of both machines, sample by sample."""
    pairs = [(a, b) for one, other in zip(here, there, strict=True)
             for a, b in zip(one, other, strict=True)]  # fmt: skip
    largest = max(float(np.abs(a.astype(np.float64) - b).max()) for a, b in pairs)
    scale = max(float(np.abs(a).max()) for a, _ in pairs)
    return {
        "identical": all(map(np.array_equal, *zip(*pairs, strict=True))),
        "largest_difference": largest,
        "relative": largest / scale if scale else largest,
        "same_class": all(int(a.argmax()) == int(b.argmax()) for a, b in pairs),
    }


def agreement(
    graph: Graph, executed: Sequence[Kernel], target: Target, feed: Any
) -> dict[str, Any]:
    """Compare what the fusion tables say with what is executed."""
    bound = {
        d: n for v in graph.feeds for d, n in zip(v.shape or (), feed[v.name].shape, strict=False)
        if isinstance(d, str)
    }  # fmt: skip
    known, _ = sized(graph, bound)
    predicted = _counted(in_execution_order(group_kernels(known, target), target))
    found = _counted(executed)
    return {
        "executed": found.total(),
        "predicted": predicted.total(),
        "same": (found & predicted).total(),
        "only_executed": sorted(f"{n} x {k[0]} {k[2]}" for k, n in (found - predicted).items()),
        "only_predicted": sorted(f"{n} x {k[0]} {k[2]}" for k, n in (predicted - found).items()),
    }


def _counted(kernels: Sequence[Kernel]) -> Counter[tuple[Any, ...]]:
    return Counter((k.name, k.kind, k.dtype, product_of(k.node)) for k in kernels)


def origins(machine: Arm64, case: Case, executed: Graph, scratch: Path) -> dict[str, Any]:
    """Return the kernels that give different integers for equal inputs, and by how much.

    The executed graph itself, with every integer tensor as an output, runs on both machines.
    """
    graph = executed.copy()
    made = [v for n in graph.nodes() for v in n.outputs if v.dtype in _INTEGERS]
    graph.set_outputs(dict.fromkeys([*graph.outputs, *made]))
    job = write_job(graph, case.feeds, scratch / f"{case.workload.name}-{case.recipe}-tensors")
    machine.run([job], PROCESSORS[case.target], seconds=3600)
    session = open_session(graph, optimize=False)
    here = [session.run(feed) for feed in case.feeds]
    found: dict[str, dict[str, int]] = {}
    for one, other in zip(here, outputs_of(job, here), strict=True):
        tensors = dict(zip(graph.outputs, zip(one, other, strict=True), strict=True))
        for value in made:
            _note_origin(value, tensors, found)
    return found


def _note_origin(value: Value, tensors: Any, found: dict[str, dict[str, int]]) -> None:
    """Note the kernel of a tensor when it is the first to differ."""
    node, (one, other) = value.producer, tensors[value]
    given = node.inputs if node is not None else ()
    if node is None or any(not np.array_equal(*tensors[v]) for v in given if v in tensors):
        return
    entry = found.setdefault(node.op, {"tensors": 0, "elements": 0, "differ": 0, "steps": 0})
    steps = np.abs(one.astype(int) - other.astype(int))
    entry["tensors"] += 1
    entry["elements"] += steps.size
    entry["differ"] += int((steps > 0).sum())
    entry["steps"] = max(entry["steps"], int(steps.max()))


def explained(found: dict[str, dict[str, int]]) -> bool:
    """Whether only kernels that rescale in float differ, and by one step at most."""
    differ = {op: entry for op, entry in found.items() if entry["differ"]}
    return set(differ) <= RESCALING and all(entry["steps"] == 1 for entry in differ.values())


def judged(case: Case, executed: Graph, here: Any, there: Any) -> dict[str, Any]:
    """Return everything about one model that both machines ran."""
    target = named_target(case.target)
    kernels = kernels_of_optimized(executed, target)
    floats = float_kernels(kernels)
    found = difference(here, there)
    pure = not floats
    return {
        "pure_integer": pure,
        "float_kernels": dict(sorted(floats.items())),
        "integer_kernels": sum(k.dtype == "int8" for k in kernels),
        **found,
        "holds": found["identical"] if pure else found["relative"] <= CLOSE,
        "tables": agreement(case.graph, kernels, target, case.feeds[0]),
    }


def check(machine: Arm64, cases: Sequence[Case], scratch: Path) -> list[dict[str, Any]]:
    """Run compiled models of one target on both machines; return a row for each."""
    rows = []
    jobs = [write_job(c.graph, c.feeds, scratch / f"{c.workload.name}-{c.recipe}") for c in cases]
    machine.run(jobs, PROCESSORS[cases[0].target], seconds=3600)
    for case, job in zip(cases, jobs, strict=True):
        names = {"model": case.workload.name, "recipe": case.recipe, "target": case.target}
        session = open_session(case.graph, target=named_target(case.target))
        here = [session.run(feed) for feed in case.feeds]
        if not Path(job["outputs"]).exists():
            rows.append(names | {"holds": False, "error": "does not run on arm64"})
            continue
        executed = ir.load(Path(job["dump"]))
        fill_shapes(executed, case.feeds[0])
        row = names | judged(case, executed, here, outputs_of(job, here))
        if row["pure_integer"] and not row["identical"]:
            row["origins"] = origins(machine, case, executed, scratch)
            row["holds"] = explained(row["origins"]) and row["relative"] <= CLOSE
        rows.append(row)
        print({k: v for k, v in rows[-1].items() if k != "tables"}, rows[-1]["tables"], flush=True)
    return rows


def compiled(options: argparse.Namespace, scratch: Path) -> list[Case]:
    """Compile every model with every recipe; what cannot be compiled is told and left out."""
    cases = []
    for workload in workloads(options.models):
        for recipe in options.recipes.split(","):
            try:
                cases.append(compile_case(workload, options.processor, recipe, scratch))
            except GraphOptError as error:
                print(workload.name, recipe, error, flush=True)
                continue
            print("compiled", workload.name, recipe, flush=True)
    return cases


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many models hold."""
    pure = [row for row in rows if row.get("pure_integer")]
    mixed = [row for row in rows if row.get("pure_integer") is False]
    tables = [row["tables"] for row in rows if "tables" in row]
    return {
        "models": len(rows),
        "hold": sum(row["holds"] for row in rows),
        "pure_integer": len(pure),
        "pure_integer_identical": sum(row["identical"] for row in pure),
        "pure_integer_largest_relative": max((row["relative"] for row in pure), default=0.0),
        "mixed": len(mixed),
        "mixed_identical": sum(row["identical"] for row in mixed),
        "mixed_largest_relative": max((row["relative"] for row in mixed), default=0.0),
        "kernels_executed": sum(t["executed"] for t in tables),
        "kernels_predicted": sum(t["predicted"] for t in tables),
        "kernels_same": sum(t["same"] for t in tables),
        "graphs_predicted_exactly": sum(
            t["executed"] == t["same"] == t["predicted"] for t in tables
        ),
    }


def main() -> None:
    """Check, print, write; exit 1 when a model does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--processor", default="arm64-dotprod", choices=sorted(PROCESSORS))
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--folder", type=Path, default=default_machine())
    options = parser.parse_args()
    try:
        machine = set_up(options.folder.resolve())
    except MachineError as error:
        sys.exit(f"no emulated machine: {error}")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        cases = compiled(options, scratch)
        rows = check(machine, cases, scratch)
    found = summary(rows)
    print(json.dumps(found, indent=1))
    write(rows, PROCESSORS[options.processor], whole=not options.models)
    sys.exit(0 if found["hold"] == found["models"] else 1)


def write(rows: list[dict[str, Any]], processor: str, *, whole: bool) -> None:
    """Write the results; rows of single models replace those of the last whole run."""
    if not whole:
        if not RESULTS.exists():
            return
        new = {(row["model"], row["recipe"], row["target"]): row for row in rows}
        old = json.loads(RESULTS.read_text())["rows"]
        rows = [new.get((row["model"], row["recipe"], row["target"]), row) for row in old]
    content = {
        "machine": describe(),
        "emulated": processor,
        "samples": EVALUATED,
        "close": CLOSE,
        "summary": summary(rows),
        "rows": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
