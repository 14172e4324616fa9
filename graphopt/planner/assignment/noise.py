"""The noise that each kernel makes in each precision, at the outputs of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.calibration.dataset import take
from graphopt.cost.work import macs_of
from graphopt.planner.assignment.gated import GatedModel

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.planner.assignment.gated import Gate
    from graphopt.planner.assignment.kernels import Kernels
    from graphopt.planner.assignment.workbench import Workbench

_WORK = 2e3
"""Milliseconds to measure for, about, on the machine that this was written on."""
_MACS_PER_MS = 5e7
_NODE_MS = 0.015
"""Of one node of the float model and what stands beside it, without its products."""
_FEWEST, _MOST = 4, 64


def gated_model(bench: Workbench, kernels: Kernels) -> GatedModel:
    """Return the model with switches, with as many calibration samples as can be afforded.

    How many that is depends on the model alone, so that the same data give the same noise.
    """
    assert bench.context.dataset is not None
    switches = sum(len(f) for f in kernels.forms.values())
    count = int(_WORK / (max(switches, 1) * _run_ms(bench.float)))
    samples = take(bench.context.dataset, min(max(count, _FEWEST), _MOST))
    return GatedModel(kernels, bench.verifier.target, list(samples))


def noises_of(bench: Workbench, model: GatedModel) -> dict[Gate, float]:
    """Return noise power over signal power of the worst output, one kernel at a time."""
    tell = bench.context.progress
    gates = tell(list(model.gates), len(model.gates), "measuring noise")
    return {gate: model.noise([gate]) for gate in gates}


def _run_ms(graph: Graph) -> float:
    """Return about how long the model with switches takes: a figure of the graph, not a timing."""
    nodes = graph.nodes()
    return 2 * sum(macs_of(n) for n in nodes) / _MACS_PER_MS + _NODE_MS * len(nodes)
