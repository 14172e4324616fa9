"""graphopt's contenders on one model: pruned, with int8 on top, and pruned without a search.

Each is compiled by the command line in a process of its own, whose time and peak memory are what a
user sees, and kept in a folder under a digest of everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import graphopt
from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.api import resolve_recipe
from graphopt.cost import Roofline
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.testing import context
from workloads import Array, Workload, _cifar, _imagenet, _load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.analysis.coupling import Group
    from pruning_bars import Goal, Subject

PACKAGE = Path(graphopt.__file__).parent
IRRELEVANT = {"cli"}
"""Parts of the package that no compiled model depends on."""
FLOAT = ("insert-qdq.placement=float", "quantize-matmuls.mode=off", "align-channels.mode=off")
ANY_DIVERGENCE = "limits.max-divergence=100"
PRUNE = (*FLOAT, "calibration.held-out=0", ANY_DIVERGENCE)
"""Nothing is quantized, so no samples are kept aside to check that. Divergence is not limited, so
that the row is there; whether the product refuses it by default stands in the row."""
REFUSED_ABOVE = 0.5
"""Divergence at which the product refuses by default."""
CRITERIA = ("l1", "l2", "wanda", "fpgm")
BISECTIONS = 14


@dataclass(frozen=True)
class Made:
    """A model, or why there is none.

    Args:
        path: the model.
        report: of the compile.
        seconds: that the process took, start to exit.
        cpu_seconds: of those, what it computed, over all threads.
        peak_mb: its peak RSS.
        scores_kept: whether an earlier compile of its kind had left scores or statistics of the
            model, which were not measured again.
        reason: why there is no model.
    """

    path: Path | None
    report: dict[str, Any]
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    scores_kept: bool = False
    reason: str = ""


class Workshop:
    """Makes the models of one subject.

    Args:
        subject: what is asked for.
        workload: the model and its data.
        folder: where everything is kept.
    """

    def __init__(self, subject: Subject, workload: Workload, folder: Path) -> None:
        self.workload = workload
        self.folder = folder
        self.data = write_images(workload, subject.images, folder / "calibration")
        self.cache = folder / "cache" / sources()

    def pruned(self, goal: Goal) -> Made:
        """Return the model that graphopt searches for a goal."""
        return self._compile(self.workload.path, ["--prune-to", self.stated(goal)], PRUNE)

    def quantized(self, path: Path) -> Made:
        """Return what the default recipe makes of a model, with the same images."""
        return self._compile(path, [], ())

    def ordered(self, order: str, goal: str) -> Made:
        """Return the int8 model of which this much is left, as "prune-channels.order" says."""
        settings = (ANY_DIVERGENCE, f"prune-channels.order={order}")
        return self._compile(self.workload.path, ["--prune-to", goal], settings)

    def uniform(self, widths: Sequence[str], criterion: str, rebuild: bool) -> Made:
        """Return the model with widths that are given."""
        options = (
            f"prune-channels.widths={json.dumps(list(widths))}",
            f"prune-channels.criterion={criterion}",
            f"prune-channels.rebuild={str(rebuild).lower()}",
        )
        return self._compile(self.workload.path, [], (*PRUNE, *options))

    def stated(self, goal: Goal) -> str:
        """Return the goal as the command line takes it: MACs are those of the file itself."""
        if goal.metric == "macs":
            return f"macs={macs_of(self.workload.path) / goal.times:.0f}"
        return f"{goal.metric}={1 / goal.times:.4f}x"

    def _compile(self, model: Path, options: Sequence[str], settings: Sequence[str]) -> Made:
        arguments = [*options, *(part for s in settings for part in ("--set", s))]
        key = digest([model, self.data], " ".join([sources(), *arguments]))
        home = self.folder / "compiled" / f"{self.workload.name}-{key}"
        facts = home / "facts.json"
        if not facts.exists():
            home.mkdir(parents=True, exist_ok=True)
            cached = self.cache / ("pruning" if settings else "integer") / self.workload.name
            facts.write_text(json.dumps(self._run(model, arguments, home / "model.onnx", cached)))
        known = json.loads(facts.read_text())
        if known["reason"]:
            return Made(None, {}, **known)
        report = json.loads((home / "model.json").read_text())
        return Made(home / "model.onnx", report, **known)

    def _run(
        self, model: Path, arguments: Sequence[str], output: Path, cached: Path
    ) -> dict[str, Any]:
        kept = cached.exists()
        cached.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "graphopt", "--no-progress", "compile", str(model)]
        command += ["--data", str(self.data), "-o", str(output), *arguments]
        done = measured(command, {"GRAPHOPT_CACHE": str(cached)})
        return {**done, "scores_kept": kept}


def measured(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a command; return its seconds, peak RSS in MB, and why it failed, or nothing.

    Seconds of the processor show what a run on a loaded machine would have taken without the load.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stderr is not None
    with process.stderr as stream:
        said = [line.strip() for line in stream.read().splitlines() if line.strip()]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reason = "" if process.returncode == 0 else " ".join(said)[:300] or "no word of why"
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "reason": reason,
    }


# -- uniform widths ------------------------------------------------------------------------


def uniform_widths(workload: Workload, limit: float) -> tuple[str, ...]:
    """Return one share of all channels inside blocks, as "GROUP=COUNT", with at most these MACs.

    Channels that are added up from block to block stay. Of the shares that leave few enough
    multiply-accumulates, the largest is taken, to within 1 / 2**BISECTIONS.
    """
    graph = prepared(workload.path)
    rules = {rule.name: rule for rule in BUILTIN_RULES}
    coupling = couple(graph, rules)
    inner = [g for g in coupling.groups if len(g.consumers) == 1 and g.is_exact]
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        made = graph.copy()
        keeps = {g.name: np.arange(g.size) < _count(g, share) for g in inner}
        remove_units(made, coupling.cut(keeps).on(made), rules)
        low, high = (share, high) if macs_of_graph(made) <= limit else (low, share)
    return tuple(f"{g.name}={_count(g, low)}" for g in inner if _count(g, low) < g.size)


def _count(group: Group, share: float) -> int:
    return max(group.step, int(share * group.size) // group.step * group.step)


def prepared(path: Path) -> ir.Graph:
    """Return a model as the pruning pass of the default recipe finds it."""
    graph = ir.load(path)
    registry = graphopt.Registry(plugins=())
    recipe = resolve_recipe(recipe="default", registry=registry).recipe
    for entry in recipe.passes:
        if entry.use == "prune-channels":
            break
        registry.pass_class(entry.use)(**entry.options).run(graph, context())
        graph.sort()
        ir.infer_shapes(graph)
    return graph


# -- counting, data, digests ---------------------------------------------------------------


def macs_of(path: Path) -> int:
    """Return the multiply-accumulates of a model file, batch 1."""
    graph = ir.load(path)
    ir.infer_shapes(graph)
    return macs_of_graph(graph)


def macs_of_graph(graph: ir.Graph) -> int:
    """Return the multiply-accumulates of a graph that has its shapes."""
    return Roofline().estimate(graph, context(target="host").target).macs


def estimated_ms(path: Path) -> float:
    """Return the latency on this machine according to the cost model."""
    graph = ir.load(path)
    ir.infer_shapes(graph)
    return Roofline().estimate(graph, context(target="host").target).latency_ms.value


def write_images(workload: Workload, count: int, folder: Path) -> Path:
    """Write the first unlabelled images as the model wants them; return the file."""
    path = folder / f"{workload.name}-{count}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (name,) = workload.calibration()
        np.savez(path, **{name: images(workload, count)})
    return path


def images(workload: Workload, count: int) -> Array:
    """Return unlabelled images, prepared; workloads give fewer, as ranges need no more."""
    if workload.name.startswith("imagenet"):
        return _imagenet(_load("imagenet_unlabelled_r112.npz")["x"][:count])
    return _cifar(_load("cifar10_dev.npz")["calib_x"][:count])


@cache
def sources() -> str:
    """Return a digest of the product's source."""
    files = sorted(
        file
        for pattern in ("*.py", "*.toml")
        for file in PACKAGE.rglob(pattern)
        if file.relative_to(PACKAGE).parts[0] not in IRRELEVANT
    )
    return digest(files)


def digest(files: Sequence[Path], text: str = "") -> str:
    """Return 16 digits that change with the content of any file, or with the text."""
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    found.update(text.encode())
    return found.hexdigest()[:16]
