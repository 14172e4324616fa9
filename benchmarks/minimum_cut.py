"""Which precision for which kernel: minimum cuts against the greedy ranking and all int8.

For each model of ../shared/data (one of each pair that differs only in BatchNormalization being
folded) and each target: the model with everything in int8 that can be, and
for several limits above its signal-to-noise ratio the fastest model that keeps the limit, found by
the ranking (returned to float by noise for time saved, then shrunk, float heads and tails), by the
minimum cut alone, and by both, of which `keep_accuracy` takes the faster. Latencies are what the
cost model says of the models that were really made; signal-to-noise ratios are those of the real
models on 16 held-out samples. Nothing is timed, and weights are rounded alike everywhere.

    python benchmarks/minimum_cut.py [--targets host arm] [MODEL...]

Writes benchmarks/results/minimum_cut.json; what is asked for is replaced there, the rest stays.
The limit of 0 dB is all int8's own ratio: there all int8 stands in the ranking's place. Models
slower than fp32 do not count: fp32 keeps every limit. Exit status 1 where both together are slower
than the ranking at any limit, or where the cut alone is faster than the ranking (by more than
0.1 %, in the geometric mean over the limits) on fewer than half of the models.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.api.setup import (
    SEED,
    find_target,
    make_context,
    make_passes,
    open_samples,
    resolve_recipe,
)
from graphopt.api.source import read_model
from graphopt.pipeline import Verifier, probe_feeds
from graphopt.pipeline.runner import Runner
from graphopt.planner import open_section
from graphopt.planner.assignment.assigner import Assigner
from graphopt.planner.assignment.limit import LimitSearch
from graphopt.planner.assignment.precisions import INT8, giving_only, settled
from graphopt.planner.plan import Plan
from graphopt.planner.precision import Budget, _Bench, _by_ranking
from graphopt.registry import Registry
from machine import describe
from workloads import workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext
    from graphopt.planner.assignment.assigner import Choice
    from graphopt.planner.precision import _Trial
    from graphopt.report import LayerSensitivity
    from workloads import Workload

ABOVE_DB = (2.0, 5.0, 10.0, 20.0)
"""Limits, above the signal-to-noise ratio of all int8."""
CLEARLY = 1.001
SAME = "_unfolded_bn"
"""Models that are another one of the folder once BatchNormalization is folded."""
RESULTS = Path(__file__).parent / "results" / "minimum_cut.json"

Row = dict[str, Any]


@dataclass
class Subject:
    """One model on one target, ready to be quantized."""

    graph: Graph
    steps: tuple[Pass, ...]
    context: PipelineContext
    verifier: Verifier

    def latency_ms(self, graph: Graph) -> float:
        """Return what the cost model says of a graph."""
        return self.context.cost.estimate(graph, self.context.target).latency_ms.value


def prepared(workload: Workload, target_name: str, folder: Path) -> Subject:
    """Run the default recipe up to what quantizes; settle that as int8 wherever it can be."""
    registry = Registry()
    original, _ = read_model(workload.path)
    data = workload.write_calibration(folder)
    resolved = resolve_recipe(
        model=workload.path, target=target_name, data=data, recipe=None, shapes=None, dims=None,
        overrides=[], registry=registry,
    )  # fmt: skip
    recipe = resolved.recipe
    target = find_target(target_name, registry)
    samples = open_samples(data, recipe, original, registry)
    assert samples is not None
    context = make_context(recipe, target, registry, samples.calibration)
    real = [feed for _, feed in zip(range(2), samples.calibration, strict=False)]
    probes = probe_feeds(original, real, SEED)
    verifier = Verifier(original, target, probes, list(samples.held_out), timed=False)
    context.probes = verifier.probes.feeds
    runner = Runner(context, verifier, recipe.limits, provider_of=lambda _: None)
    graph = original.copy()
    passes = make_passes(recipe, registry)
    start, end = open_section(passes)
    runner.run(graph, passes[:start])
    steps = Plan(settled(passes[start:end])).having("insert-qdq", rounding="balanced").steps
    return Subject(graph, steps, context, verifier)


def compared(subject: Subject) -> Row:
    """Return latencies by limit and method."""
    started = time.perf_counter()
    assigner = Assigner(subject.graph, subject.steps, subject.context, subject.verifier)
    corners = len(assigner.sweep.corners)
    setup_s = time.perf_counter() - started
    whole = bench_of(subject, -math.inf).check(frozenset())
    known = Known(whole, {frozenset(): whole})
    all_int8 = subject.latency_ms(whole.graph)
    row: Row = {
        "all_int8_ms": rounded(all_int8),
        "fp32_ms": rounded(subject.latency_ms(assigner.bench.float)),
        "all_int8_snr_db": round(whole.snr_db, 2),
        "kernels": len(assigner.kernels.names),
        "precisions": list(assigner.kernels.labels),
        "corners": corners,
        "all_corners": assigner.sweep.is_complete,
        "setup_s": round(setup_s, 1),
        "additive_db": additivity(assigner),
        "limits": [],
    }
    for above in (0.0, *ABOVE_DB):
        row["limits"].append(at_limit(subject, assigner, known, above))
    return row


def additivity(assigner: Assigner) -> Row:
    """Return how far the sum of noises is from all kernels together, and from the real model."""
    chosen = {n: INT8 if n in assigner.kernels.forms.get(INT8, {}) else "fp32"
              for n in assigner.kernels.names}  # fmt: skip
    problem = assigner.problem
    labels = tuple(problem.labels.index(chosen.get(n, "fp32")) for n in problem.names)
    choice = assigner.choice(labels)
    return {
        "sum": round(-10 * math.log10(choice.noise), 2) if choice.noise else None,
        "together": round(-10 * math.log10(assigner.joint_noise(choice)), 2),
        "real": round(assigner.bench.snr_db(giving_only(assigner.bench.steps, INT8)), 2),
    }


def at_limit(subject: Subject, assigner: Assigner, known: Known, above: float) -> Row:
    """Return the fastest models that keep a limit."""
    limit = known.whole.snr_db + above - 1e-6
    bench = known.bench(subject, limit)
    if above and known.ranked is None:
        known.ranked = bench.ranked(known.whole)
        known.order, known.near = bench.order, bench._near
    bench.order, bench._near = known.order, known.near
    ranked = _by_ranking(bench, known.ranked) if known.ranked else [known.whole]
    known.trials |= bench._checked
    made = 0

    def check(choice: Choice) -> _Trial:
        nonlocal made
        made += 1
        if choice.steps not in known.cuts:
            known.cuts[choice.steps] = bench.check_choice(choice)
        return judged(known.cuts[choice.steps], limit)

    cut = [t for t in LimitSearch(assigner, check, limit).run() if not bench.is_float(t)]
    return {
        "above_db": above,
        "ranking": fastest(subject, ranked, assigner, limit),
        "cut": fastest(subject, cut, assigner, limit) | {"models": made},
    }


@dataclass
class Known:
    """What need not be made again for another limit."""

    whole: _Trial
    trials: dict[frozenset[str], _Trial]
    cuts: dict[tuple[Pass, ...], _Trial] = field(default_factory=dict)
    ranked: list[LayerSensitivity] | None = None
    order: list[str] = field(default_factory=list)
    near: dict[str, set[str]] = field(default_factory=dict)

    def bench(self, subject: Subject, limit: float) -> _Bench:
        """Return a bench for a limit that knows the models made so far."""
        bench = bench_of(subject, limit)
        bench._checked = {k: judged(t, limit) for k, t in self.trials.items()}
        return bench


def judged(trial: _Trial, limit: float) -> _Trial:
    """Return a model compared with another limit."""
    return dataclasses.replace(trial, holds=trial.snr_db >= limit)


def bench_of(subject: Subject, limit: float) -> _Bench:
    """Return a new bench for a limit."""
    parts = (subject.graph, subject.steps, subject.context, subject.verifier)
    return _Bench(*parts, Budget(limit))


def fastest(subject: Subject, trials: Sequence[_Trial], assigner: Assigner, limit: float) -> Row:
    """Return the fastest model that keeps the limit; fp32 where none that is faster was found."""
    times = [subject.latency_ms(t.graph) for t in trials]
    floats = subject.latency_ms(assigner.bench.float)
    if not times or floats < min(times):
        return {"ms": rounded(floats), "snr_db": None}
    best = trials[times.index(min(times))]
    assert best.snr_db >= limit
    return {"ms": rounded(min(times)), "snr_db": round(best.snr_db, 2)}


def rounded(ms: float) -> float:
    """Return a latency with 6 digits."""
    return float(f"{ms:.6g}")


def summary(rows: dict[str, Row]) -> Row:
    """Return what the bar asks, over all models and targets."""
    means, losses, against = {}, [], []
    for name, row in rows.items():
        limits = [at for at in row["limits"] if at["above_db"]]
        ratios = {at["above_db"]: at["ranking"]["ms"] / at["cut"]["ms"] for at in limits}
        means[name] = statistics.geometric_mean(ratios.values())
        losses += [(name, above, round(r, 4)) for above, r in ratios.items() if r < 1 / CLEARLY]
        first = row["limits"][0]
        against.append(first["ranking"]["ms"] / first["cut"]["ms"])
    both = [
        at["ranking"]["ms"] / min(at["ranking"]["ms"], at["cut"]["ms"])
        for row in rows.values()
        for at in row["limits"]
    ]
    wins = sum(m > CLEARLY for m in means.values())
    return {
        "models": len(rows),
        "cut_faster_on": wins,
        "cut_slower_on": sum(m < 1 / CLEARLY for m in means.values()),
        "cut_over_ranking": round(statistics.geometric_mean(means.values()), 4),
        "losses_of_the_cut_alone": losses,
        "both_over_ranking": round(statistics.geometric_mean(both), 4),
        "both_never_slower": min(both) >= 1.0,
        "cut_over_all_int8_at_its_ratio": round(statistics.geometric_mean(against), 4),
        "cut_alone_slower_than_all_int8_on": sum(a < 1 / CLEARLY for a in against),
        "cut_faster_than_all_int8_on": sum(a > CLEARLY for a in against),
        "bar": wins * 2 >= len(rows) and min(both) >= 1.0,
    }


def written(rows: dict[str, Row]) -> Row:
    """Write the results, with a summary for each target and for all together."""
    targets = sorted({name.split(" ")[1] for name in rows})
    parts = {t: {n: r for n, r in rows.items() if n.endswith(f" {t}")} for t in targets}
    result = {
        "machine": describe(),
        "latency": "estimated by the cost model; nothing was timed",
        "summary": {**{t: summary(part) for t, part in parts.items()}, "all": summary(rows)},
        "rows": dict(sorted(rows.items())),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result["summary"]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--targets", nargs="+", default=["host", "arm"])
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else {}
    rows: dict[str, Row] = kept
    found: Row = {}
    with tempfile.TemporaryDirectory() as folder:
        named = options.models or [w.name for w in workloads() if not w.name.endswith(SAME)]
        for workload in workloads(named):
            for target in options.targets:
                subject = prepared(workload, target, Path(folder))
                rows[f"{workload.name} {target}"] = row = compared(subject)
                for at in row["limits"]:
                    ratio = at["ranking"]["ms"] / at["cut"]["ms"]
                    print(f"{workload.name} {target} +{at['above_db']:g} dB: ranking "
                          f"{at['ranking']['ms']} cut {at['cut']['ms']} ms, {ratio:.3f}",
                          flush=True)  # fmt: skip
                found = written(rows)
    print(json.dumps(found, indent=1))
    return 0 if found["all"]["bar"] else 1


if __name__ == "__main__":
    sys.exit(main())
