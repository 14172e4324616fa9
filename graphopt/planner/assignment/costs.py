"""The problem of one model on one target: times and borders by the cost model, noise measured."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING

from graphopt.planner.assignment.connections import OUTSIDE, connections
from graphopt.planner.assignment.kernels import RETURNS_FLOATS
from graphopt.planner.assignment.precisions import FP32, INT8, REPRESENTATION
from graphopt.planner.assignment.prices import BorderPrices
from graphopt.planner.assignment.problem import ProblemDraft

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.cost.base import Estimate
    from graphopt.ir import Graph
    from graphopt.planner.assignment.connections import Connection
    from graphopt.planner.assignment.kernels import Kernels
    from graphopt.planner.assignment.problem import Problem
    from graphopt.planner.assignment.workbench import Workbench


def problem_of(
    bench: Workbench, kernels: Kernels, noises: Mapping[tuple[str, str], float]
) -> Problem:
    """Return the problem of giving each kernel a precision.

    Args:
        bench: has the float model, the target and the cost model.
        kernels: what has a choice.
        noises: noise power over signal power by kernel and precision; what is missing is taken to
            be as noisy as the others are.
    """
    draft = ProblemDraft(kernels.labels)
    draft.times = {OUTSIDE: {FP32: 0.0}, **{name: {FP32: 0.0} for name in kernels.names}}
    found = connections(bench.float, kernels)
    prices = BorderPrices(bench.context.cost, bench.context.target)
    estimates = {label: bench.estimate(graph) for label, graph in kernels.graphs.items()}
    owner = _owner_of_nodes(kernels)
    for label, estimate in estimates.items():
        times = _times(estimate, owner)
        able = kernels.names if label == FP32 else kernels.forms[label]
        for name in able:
            draft.times[name][label] = times.get(name, 0.0)
    _charge_fusions(draft, estimates[FP32], owner, found, prices)
    _charge_borders(draft, bench.float, kernels, found, prices)
    draft.constant = estimates[FP32].latency_ms.value * 1e3
    draft.constant -= sum(t[FP32] for t in draft.times.values())
    for name in kernels.names:
        draft.noises[name] = _noises(name, kernels, noises)
    return draft.problem()


def _owner_of_nodes(kernels: Kernels) -> dict[str, str]:
    """Return the kernel that each node belongs to: its operator, and the activation behind it."""
    found: dict[str, str] = {}
    for forms in kernels.forms.values():
        for name, layer in forms.items():
            last = layer.reference.producer
            found[layer.node.label] = name
            if last is not None:
                found.setdefault(last.label, name)
    return found


def _times(estimate: Estimate, owner: Mapping[str, str]) -> dict[str, float]:
    """Return the microseconds of each kernel; what covers several belongs to the first."""
    times: defaultdict[str, float] = defaultdict(float)
    for kernel in estimate.kernels:
        covered = dict.fromkeys(owner[n] for n in kernel.nodes if n in owner)
        for name in list(covered)[:1]:
            times[name] += kernel.latency_us
    return times


def _charge_fusions(
    draft: ProblemDraft,
    floats: Estimate,
    owner: Mapping[str, str],
    found: list[Connection],
    prices: BorderPrices,
) -> None:
    """Charge what a float kernel that another one takes in costs where that one is not in float."""
    shapes = {c.writer: c.shape for c in found}
    for kernel in floats.kernels:
        first, *others = dict.fromkeys(owner[n] for n in kernel.nodes if n in owner) or [OUTSIDE]
        for name in others:
            alone = prices.add(shapes[name]) if name in shapes else 0.0
            for label in draft.labels:
                if label != FP32:
                    draft.charge(first, name, (label, FP32), alone)


def _charge_borders(
    draft: ProblemDraft,
    graph: Graph,
    kernels: Kernels,
    found: list[Connection],
    prices: BorderPrices,
) -> None:
    floats = [label for label in kernels.labels if label not in REPRESENTATION]
    readers: dict[tuple[str, str], dict[str, None]] = {}
    nodes = {n.label: n for n in graph.nodes("MaxPool")}
    prices_in: dict[tuple[str, str], float] = {}
    integer = kernels.forms.get(INT8, {})
    for each in found:
        if each.reader in integer:
            readers.setdefault((each.writer, each.tensor), {})[each.reader] = None
            price = prices.quantize(each.shape, nodes.get(each.pooling or ""))
            key = (each.writer, each.tensor)
            prices_in[key] = max(price, prices_in.get(key, 0.0))
        form = integer.get(each.writer)
        if form is not None and form.node.op not in RETURNS_FLOATS:
            price = prices.dequantize(each.shape, nodes.get(each.pooling or ""))
            for label in floats:
                draft.charge(each.writer, each.reader, (INT8, label), price)
    for (writer, tensor), asking in readers.items():
        costs = dict.fromkeys(floats, prices_in[writer, tensor])
        draft.shared.append((writer, tuple(asking), INT8, costs))


def _noises(
    name: str, kernels: Kernels, noises: Mapping[tuple[str, str], float]
) -> dict[str, float]:
    found = {FP32: 0.0}
    for label, forms in kernels.forms.items():
        if name in forms:
            known = [n for (_, each), n in noises.items() if each == label and math.isfinite(n)]
            usual = statistics.median(known) if known else 0.0
            found[label] = noises.get((name, label), usual)
    return found
