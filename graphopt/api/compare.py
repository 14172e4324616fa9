"""Two models beside each other: how fast, and how far apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.api.requested import demand_option
from graphopt.api.sizes import sizes_given
from graphopt.api.source import input_specs, read_model
from graphopt.api.timing import time_against
from graphopt.calibration.dataset import take
from graphopt.calibration.sources import open_dataset
from graphopt.errors import ModelError, RecipeError
from graphopt.pipeline import Probes, probe_feeds, snr_db, usable_probes
from graphopt.pipeline.verifier import relative_error
from graphopt.report import BenchResult, DiffResult, OutputDifference
from graphopt.runtime import open_session, open_sparingly, race

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph
    from graphopt.recipe import Recipe
    from graphopt.registry import Registry
    from graphopt.report import Bisection, Observe

_SAMPLES = 64
SEED = 0
TOLERANCE = 1e-4
"""Relative error up to which tensors are equal for `diff`."""


def bench(
    model: ModelSource,
    *,
    against: ModelSource | None = None,
    seconds: float = 3.0,
    threads: int = 1,
    data: Source | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
) -> BenchResult:
    """Time a model on this machine, alone or interleaved with another one.

    Args:
        model: the model.
        against: another one with the same inputs.
        seconds: how long to measure.
        threads: inside an operator.
        data: what to run on; by default seeded values.
        shapes: what the inputs are, as for a compile.
        dims: sizes of symbols, as for a compile.

    Raises:
        ModelError: G201 to G209, G215, G218.
    """
    sizes = sizes_given(shapes, dims)
    graph, name = read_model(model, sizes)
    probes = _probes(graph, data, 4)
    feeds = probes.feeds[:1] if data is None else probes.feeds
    basis = f"medians on this machine, {threads} thread{'s' * (threads > 1)}, {probes.origin}"
    if against is None:
        result = race({"model": open_session(graph, threads=threads)}, feeds, seconds=seconds)
        timing = result.timings["model"]
        return BenchResult(name, timing.median_ms, timing.rounds, threads, basis)
    other, other_name = read_model(against, sizes)
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


def diff(
    a: ModelSource,
    b: ModelSource | None = None,
    *,
    data: Source | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
    bisect: bool = False,
    recipe: Recipe | Path | str | None = None,
    target: str | None = None,
    tolerance: float | None = None,
    save_input: Path | None = None,
    registry: Registry | None = None,
    observe: Observe | None = None,
) -> DiffResult:
    """Compare what two models compute, and how they are built.

    Args:
        a: the model to compare with.
        b: the other one; None where there is a recipe.
        data: what to run both on; by default seeded values.
        shapes: what the inputs are, as for a compile; what ``b`` fixes already it must agree with.
        dims: sizes of symbols of ``a``, as for a compile.
        bisect: look for the first tensor, and with a recipe the first pass, that differs.
        recipe: the other model is what its passes make of ``a``, up to the first that differs.
        target: what the recipe is for; its own when None.
        tolerance: relative error up to which tensors are equal in that search; 1e-4 when None.
        save_input: .npz file for the input that shows the difference.
        registry: passes, targets and so on; built-ins and installed plugins when None.
        observe: is told how far the passes of a recipe are.

    Raises:
        RecipeError: G108, there are two models and a recipe, or neither; something was stated
            that belongs to a search, or to a recipe, that was not asked for.
        ModelError: G201 to G209; G215, they do not take the same inputs; G218.
    """
    from graphopt.api.bisect import bisect_models, bisect_recipe

    searches = {"--tolerance": tolerance, "--save-input": save_input}
    _check_options(b, recipe, {"--target": target}, searches, bisect=bisect)
    tolerance = TOLERANCE if tolerance is None else tolerance
    first, _ = read_model(a, sizes_given(shapes, dims))
    probes = _probes(first, data, _SAMPLES)
    found = None
    if b is not None:
        second, _ = read_model(b)
        if bisect:
            _shared(first, second)
            found = bisect_models(first, second, probes, tolerance)
    else:
        assert recipe is not None
        second, found = bisect_recipe(
            first,
            probes,
            tolerance,
            recipe=recipe,
            target=target,
            data=data,
            registry=registry,
            observe=observe,
        )
    result = DiffResult(
        _differences(first, second, probes),
        tuple(_structural(first, second)),
        len(probes.feeds),
        probes.origin,
        found,
    )
    if save_input is not None and found is not None:
        _save_input(save_input, found, probes)
    return result


def _save_input(path: Path, found: Bisection, probes: Probes) -> None:
    """Write the input at which models part, where they do, as an .npz file."""
    from graphopt.api.bisect import save_feed

    if found.parting is not None:
        save_feed(probes.feeds[found.parting.sample], path)


def _check_options(
    b: ModelSource | None,
    recipe: Recipe | Path | str | None,
    with_recipe: Mapping[str, object],
    with_search: Mapping[str, object],
    *,
    bisect: bool,
) -> None:
    """Raise RecipeError G108 for options of `diff` that do not go together."""
    if (b is None) == (recipe is None):
        raise RecipeError(
            "a difference needs a second model, or a recipe" + (", not both" if recipe else ""),
            code="G108",
            hint="graphopt diff A.onnx B.onnx, or graphopt diff A.onnx --recipe PRESET --bisect",
        )
    demand_option(recipe is not None, "`--recipe`", with_recipe)
    demand_option(bisect or recipe is not None, "`--bisect`", with_search)


def _shared(first: Graph, second: Graph) -> list[str]:
    """Return the outputs that both have; raises ModelError G215 when there are none."""
    names = [[v.name for v in graph.outputs] for graph in (first, second)]
    shared = [name for name in names[0] if name in names[1]]
    if not shared:
        raise ModelError(
            "the models have no output in common",
            code="G215",
            hint=f"outputs are {', '.join(names[0])} and {', '.join(names[1])}",
        )
    return shared


def _differences(first: Graph, second: Graph, probes: Probes) -> tuple[OutputDifference, ...]:
    shared = _shared(first, second)
    computed = [_outputs(graph, probes, shared) for graph in (first, second)]
    found = []
    for index, name in enumerate(shared):
        wanted = [outputs[index] for outputs in computed[0]]
        others = [outputs[index] for outputs in computed[1]]
        found.append(
            OutputDifference(
                name,
                max(map(_max_abs, wanted, others)),
                relative_error(wanted, others),
                snr_db(wanted, others),
            )
        )
    return tuple(found)


def _max_abs(wanted: Any, found: Any) -> float:
    """Return the largest difference; infinity where the outputs cannot be subtracted."""
    if getattr(wanted, "shape", None) != getattr(found, "shape", None):
        return math.inf
    if not isinstance(wanted, np.ndarray) or wanted.dtype.kind not in "biuf":
        return 0.0 if relative_error([wanted], [found]) == 0 else math.inf
    difference = np.abs(wanted.astype(np.float64) - found.astype(np.float64))
    return float(difference.max(initial=0.0))


def _outputs(graph: Graph, probes: Probes, names: list[str]) -> list[list[Any]]:
    """Return the named outputs for each feed; the session is closed before the next is opened."""
    session = open_sparingly(graph)
    return [session.run(feed, names) for feed in probes.feeds]


def _probes(graph: Graph, data: Source | None, count: int) -> Probes:
    if data is None:
        return usable_probes(graph, probe_feeds(graph, [], SEED))
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
