"""The compile, as it is called: open what was given, run the job, hold it to the limits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.api.budget import (
    assignments,
    check_kept,
)
from graphopt.api.job import Job
from graphopt.api.outcome import (
    check_fits,
)
from graphopt.api.recovery import nothing_trained
from graphopt.api.requested import check_dumped, check_explained
from graphopt.api.setup import (
    find_target,
    open_samples,
    resolve_recipe,
)
from graphopt.api.sizes import set_sizes
from graphopt.api.source import naming, read_model
from graphopt.recipe.recovery import sparing
from graphopt.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.api.compiled import Compiled
    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.ir import Graph
    from graphopt.recipe import Recipe, ResolvedRecipe
    from graphopt.report import Observe


def compile_model(
    model: ModelSource,
    *,
    target: str | None = None,
    data: Source | None = None,
    validation: Source | None = None,
    metric: str | Callable[..., float] | None = None,
    recipe: ResolvedRecipe | Recipe | Path | str | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
    overrides: Sequence[str] = (),
    prune_to: str | None = None,
    recover: str | None = None,
    strict: bool = False,
    measure: bool | None = None,
    registry: Registry | None = None,
    observe: Observe | None = None,
    explain: Sequence[str] = (),
    dump_after: str | None = None,
    dump_dir: Path | None = None,
    sensitivity: bool = False,
    validate: bool = False,
) -> Compiled:
    """Compile a model for a target; nothing is written, and the input is not touched.

    Args:
        model: a file, its bytes, or a graph.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        data: samples: a file or folder, arrays by input name, or an iterable of feeds.
        validation: samples to judge a stated drop on, with labels; by default a part of ``data``
            that nothing is calibrated on.
        metric: what a stated drop is counted in: a name, or function(outputs, labels) -> float,
            larger is better, of the first output and the label of each sample.
        recipe: preset name, file, or a recipe; one that ``resolve_recipe`` returned is taken as it
            is, and target, shapes, dims, overrides, prune_to and recover are not looked at.
        shapes: what the inputs are, by name, or that of the only input: numbers fix a dimension.
        dims: by symbol, a size, or bounds such as (1, 8) or "1..8".
        overrides: "pass.option=value", strongest of all.
        prune_to: what to reach by removing channels and branches, such as "latency=0.6x".
        recover: how much to train what is left, against the original and without labels: "light",
            "full", "minutes=5", "steps=200" of each training, or "off". Takes the plugin
            graphopt-torch; without it, a notice says so.
        strict: fail at the first pass that would be rolled back.
        measure: time candidates on this machine; by default when the target is the host.
        registry: passes, targets and so on; built-ins and installed plugins when None.
        observe: is told about progress.
        explain: nodes whose reasons must be in the report; an unknown one is an error.
        dump_after: name of a pass after which the graph is written as text.
        dump_dir: the folder for that text.
        sensitivity: measure the noise of each integer layer for the report; needs data.
        validate: keep samples aside that somebody else will judge the accuracy on.

    Raises:
        GraphOptError: with code, place and hint; LimitError G503 carries the compiled model when
            the target cannot hold it.
    """
    registry = registry or Registry()
    graph, name = read_model(model)
    resolved = resolve_recipe(
        model=model,
        target=target,
        data=data,
        validation=validation,
        recipe=recipe,
        shapes=shapes,
        dims=dims,
        overrides=[*overrides, *assignments(prune_to, metric)],
        recover=recover,
        registry=registry,
    )
    asked = sparing(resolved.recipe)
    sized = _with_sizes(asked, graph, name)
    found = find_target(asked.target, registry)
    samples = open_samples(data, asked, graph, registry, validate=validate, judged=validation)
    dump = (dump_after, Path(dump_dir or ".")) if dump_after else None
    job = Job(name, graph, sized, found, registry, samples, strict, observe, dump)
    job.sensitivity, job.metric = sensitivity, metric
    job.notices += nothing_trained(resolved, registry)
    job.measure = job.target.is_host if measure is None else measure and job.target.is_host
    return _checked(job, explain)


def _checked(job: Job, explain: Sequence[str]) -> Compiled:
    """Run a compile and hold what came out to what was asked for."""
    check_dumped(job.dump[0] if job.dump else None, job.recipe)
    with naming(job.name, job.original):
        compiled = job.run()
    check_explained(compiled.report, explain, job.original)
    check_fits(compiled, job.target)
    check_kept(compiled)
    return compiled


def _with_sizes(recipe: Recipe, graph: Graph, name: str) -> Recipe:
    """Give the graph the sizes of the recipe; return it with every input named."""
    with naming(name, graph):
        return dataclasses.replace(recipe, model=set_sizes(graph, recipe.model))
