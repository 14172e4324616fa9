"""Search: what to try is decided round by round, made by workers, judged, and timed at the end."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.api.searching.asked import Asked
from graphopt.api.searching.choice import Choice
from graphopt.api.searching.foreman import Foreman
from graphopt.api.searching.formats import assigned_formats, placed_format, plain_formats
from graphopt.api.searching.ground import Ground, prepare
from graphopt.api.searching.noise import with_noise
from graphopt.api.searching.record import compiled_of, record_of
from graphopt.api.searching.storing import can_store, small_rounds, wants_small
from graphopt.api.searching.training import extra_seconds, trained_rounds
from graphopt.calibration.cache_folder import cache_folder
from graphopt.errors import GraphOptError
from graphopt.planner.joint import Candidate, Store, Wanted, rounds
from graphopt.registry import Registry
from graphopt.workers import open_crew

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.api.compiled import Compiled
    from graphopt.api.sizes import Dims as OpenDims
    from graphopt.api.sizes import Shapes
    from graphopt.api.source import ModelSource
    from graphopt.calibration.sources import Source
    from graphopt.planner.joint import Effort
    from graphopt.planner.joint.strategy import Rounds
    from graphopt.recipe import Recipe
    from graphopt.report import Observe, SearchRecord


@dataclass(frozen=True)
class Found:
    """What a search returns.

    Args:
        compiled: the model that was picked, with its report.
        record: every model that was tried.
        folder: where they lie.
    """

    compiled: Compiled
    record: SearchRecord
    folder: Path


def search(
    model: ModelSource,
    *,
    data: Source,
    target: str | None = None,
    recipe: Recipe | Path | str | None = None,
    shapes: Shapes | None = None,
    dims: OpenDims | None = None,
    overrides: Sequence[str] = (),
    recover: str | None = None,
    max_drop: str | float | None = None,
    validation: Source | None = None,
    budgets: Mapping[str, str | float | None] | None = None,
    effort: str = "normal",
    seconds: float | None = None,
    pick: str | None = None,
    workers: int | None = None,
    executor: str | None = None,
    folder: Path | str | None = None,
    measure: bool | None = None,
    sensitivity: bool = False,
    registry: Registry | None = None,
    observe: Observe | None = None,
) -> Found:
    """Return the best model within the budgets: which precision, how much removed.

    Args:
        model: a file, its bytes, or a graph.
        data: samples to calibrate on and others to judge by; labelled where accuracy is meant.
        target: name, alias or TOML file; the recipe's own ("host") when None.
        recipe: what every candidate starts from: preset name, file, or a recipe.
        shapes: what the inputs are, as for a compile.
        dims: sizes of symbols, as for a compile.
        overrides: "pass.option=value" for every candidate.
        recover: how much to train what misses the stated accuracy by little, as for a compile;
            the minutes are shared by the models that are trained, one after the other.
        max_drop: largest loss of accuracy: "1%" or points of the metric. The fastest model that
            keeps it is picked; without one, the most accurate within ``budgets``.
        validation: samples to judge by; by default some of ``data`` that nothing else sees.
        budgets: upper bounds by name: ``max_latency``, ``max_size``, ``max_ram``, ``max_energy``;
            figures with units, or "0.5x" of the original's.
        effort: "quick", "normal" or "thorough".
        seconds: after how long no further model is begun.
        pick: another rule: "fastest", "smallest", "most-accurate", "balanced"; or the key of a
            point of the record.
        workers: processes that make candidates; as many as cores and memory carry when None.
        executor: URL of a cluster, such as "tcp://host:8786".
        folder: where everything made is kept, so that a search that was killed goes on; in the
            user's cache when None.
        measure: time finalists on this machine; by default when the target is the host.
        sensitivity: measure the noise of each layer of the model that is picked; makes it again.
        registry: passes, targets and so on; built-ins and installed plugins when None.
        observe: is told about progress.

    Raises:
        GraphOptError: with code, place and hint; LimitError G507, which carries the nearest model,
            when none is within the budgets.
    """
    started = time.perf_counter()
    registry = registry or Registry()
    asked = Asked.of(budgets, effort, seconds, pick)
    ground = prepare(
        model,
        data,
        target=target,
        recipe=recipe,
        shapes=shapes,
        dims=dims,
        overrides=overrides,
        recover=recover,
        max_drop=max_drop,
        validation=validation,
        measure=measure,
        registry=registry,
        observe=observe,
    )
    if seconds is None:
        asked = dataclasses.replace(asked, seconds=asked.seconds + extra_seconds(ground.recovery))
    place = Path(folder) if folder is not None else _folder(ground)
    with Store(place) as store:
        found = _searched(ground, asked, store, workers, executor, started)
    if sensitivity:
        return dataclasses.replace(found, compiled=with_noise(ground, found.compiled))
    return found


def _searched(
    ground: Ground,
    asked: Asked,
    store: Store,
    workers: int | None,
    executor: str | None,
    started: float,
) -> Found:
    asked.budgets.check_energy(ground.figures)
    wanted = Wanted(
        asked.budgets.within(ground.target.memory),
        ground.figures,
        None if ground.limit is None else ground.guard.allowed,
    )
    crew = open_crew(
        executor=executor,
        workers=workers,
        find=ground.registry.executor,
        peak_bytes=ground.peak_bytes,
        folder=store.folder / "parcels",
    )
    with crew:
        foreman = Foreman(ground, store, crew, started + asked.seconds)
        formats = _formats(ground, foreman, asked.effort)
        choice = Choice(ground, store, foreman, wanted, asked)
        small = wants_small(asked) and can_store(ground)
        foreman.plan(len(formats), wanted, asked.effort, small=small)
        if small:
            # What is asked for comes first; what is pruned is stored smaller once it is known.
            foreman.make(formats)
            _run(foreman, small_rounds(choice))
        _run(foreman, rounds(formats, wanted, asked.effort, foreman.timed))
        if not foreman.stopped:
            _run(foreman, trained_rounds(choice))
        if small and not foreman.stopped:
            _run(foreman, small_rounds(choice))
        chosen = choice.decide()
        record = record_of(ground, asked, choice, chosen, crew, started)
    compiled = compiled_of(ground, store, choice, chosen, record)
    choice.demand(compiled, record, chosen)
    return Found(compiled, record, store.folder)


def _run(foreman: Foreman, steps: Rounds) -> None:
    """Make round after round, until nothing is left to try or the time is up."""
    batch = next(steps, ())
    while batch:
        results = foreman.make(batch)
        if foreman.stopped:
            return
        try:
            batch = steps.send(results)
        except StopIteration:
            return


def _formats(ground: Ground, foreman: Foreman, effort: Effort) -> list[Candidate]:
    """Return the precisions to start from; on this machine with the one that the clock prefers."""
    formats = plain_formats(ground.recipe, ground.graph)
    placed = _placed(ground, foreman) if ground.measure else None
    formats += [placed] if placed is not None else []
    if effort.assignments:
        formats += assigned_formats(ground, effort.assignments)
    return formats


def _placed(ground: Ground, foreman: Foreman) -> Candidate | None:
    """Return the placement of integers that a measured compile settles on; None without any."""
    from graphopt.report.stored import read_report

    made = foreman.make_here(Candidate("int8"))
    if not made.report:
        return None
    found = placed_format(read_report(made.report), ground.recipe, ground.registry)
    if found is not None:
        foreman.adopt(found, made)
    return found


def _folder(ground: Ground) -> Path:
    """Return where a search is kept that was given no folder."""
    cache = cache_folder()
    if cache is None:
        raise GraphOptError(
            "a search needs a folder to keep its models in",
            code="G208",
            hint="name one with `--folder`, or unset GRAPHOPT_CACHE",
        )
    return cache / "search" / ground.basis[:16]
