"""Two models beside each other: how fast, and how far apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt.api.source import input_specs, read_model
from graphopt.api.timing import time_against
from graphopt.calibration.dataset import take
from graphopt.calibration.sources import open_dataset
from graphopt.errors import ModelError
from graphopt.pipeline import Probes, probe_feeds, snr_db
from graphopt.pipeline.verifier import relative_error
from graphopt.report import BenchResult, DiffResult, OutputDifference
from graphopt.runtime import open_session, race

if TYPE_CHECKING:
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph

_SAMPLES = 64
SEED = 0


def bench(
    model: ModelSource,
    *,
    against: ModelSource | None = None,
    seconds: float = 3.0,
    threads: int = 1,
    data: Source | None = None,
) -> BenchResult:
    """Time a model on this machine, alone or interleaved with another one.

    Raises:
        ModelError: G201 to G209, G215.
    """
    graph, name = read_model(model)
    probes = _probes(graph, data, 4)
    feeds = probes.feeds[:1] if data is None else probes.feeds
    basis = f"medians on this machine, {threads} thread{'s' * (threads > 1)}, {probes.origin}"
    if against is None:
        result = race({"model": open_session(graph, threads=threads)}, feeds, seconds=seconds)
        timing = result.timings["model"]
        return BenchResult(name, timing.median_ms, timing.rounds, threads, basis)
    other, other_name = read_model(against)
    sessions = [open_session(g, threads=threads) for g in (other, graph)]
    timed = time_against(sessions[0], sessions[1], feeds, seconds=seconds)
    return BenchResult(
        model=name,
        ms_a=timed.after_ms,
        runs=timed.rounds,
        threads=threads,
        basis=basis,
        against=other_name,
        ms_b=timed.before_ms,
        ratio=timed.ratio,
        low=timed.low,
        high=timed.high,
    )


def diff(a: ModelSource, b: ModelSource, *, data: Source | None = None) -> DiffResult:
    """Compare what two models compute, and how they are built.

    Raises:
        ModelError: G201 to G209; G215, they do not take the same inputs.
    """
    first, _ = read_model(a)
    second, _ = read_model(b)
    probes = _probes(first, data, _SAMPLES)
    one, other = open_session(first), open_session(second)
    shared = [name for name in one.outputs if name in other.outputs]
    if not shared:
        raise ModelError(
            "the models have no output in common",
            code="G215",
            hint=f"outputs are {', '.join(one.outputs)} and {', '.join(other.outputs)}",
        )
    pairs = [(one.run(f, shared), other.run(f, shared)) for f in probes.feeds]
    outputs = []
    for index, name in enumerate(shared):
        wanted = [outputs[index] for outputs, _ in pairs]
        found = [outputs[index] for _, outputs in pairs]
        outputs.append(
            OutputDifference(
                name,
                max(
                    float(np.abs(w - g).max(initial=0.0))
                    for w, g in zip(wanted, found, strict=True)
                ),
                relative_error(wanted, found),
                snr_db(wanted, found),
            )
        )
    return DiffResult(tuple(outputs), tuple(_structural(first, second)), len(pairs), probes.origin)


def _probes(graph: Graph, data: Source | None, count: int) -> Probes:
    if data is None:
        return probe_feeds(graph, [], SEED)
    dataset = take(open_dataset(data, input_specs(graph)), count)
    return Probes(tuple(dataset), dataset.origin)


def _structural(first: Graph, second: Graph) -> list[str]:
    """Say in a line each how interface and operators differ."""
    lines = []
    for what in ("inputs", "outputs"):
        before = [(v.name, v.dtype, v.shape) for v in getattr(first, what)]
        after = [(v.name, v.dtype, v.shape) for v in getattr(second, what)]
        if before != after:
            lines.append(f"{what}: {_names(before)} and {_names(after)}")
    if first.opset != second.opset:
        lines.append(f"opset: {first.opset} and {second.opset}")
    counts = [_operators(g) for g in (first, second)]
    for op in sorted({*counts[0], *counts[1]}):
        one, other = counts[0].get(op, 0), counts[1].get(op, 0)
        if one != other:
            lines.append(f"{op}: {one} and {other}")
    return lines


def _names(ports: list[tuple[str, object, object]]) -> str:
    return ", ".join(name for name, _, _ in ports)


def _operators(graph: Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in graph.walk():
        counts[node.op] = counts.get(node.op, 0) + 1
    return counts
