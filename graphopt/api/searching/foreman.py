"""Has candidates made: what the store has is taken from it, the rest goes to the crew."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.api.searching.forecast import Forecast
from graphopt.api.searching.formats import clocked
from graphopt.api.searching.ground import shared_data
from graphopt.api.searching.race import timed_finalists
from graphopt.api.searching.training import with_idle_training
from graphopt.api.searching.trial import (
    Trial,
    compiled_trial,
    figures_of,
    judged,
    run_trial,
)
from graphopt.errors import DataError, GraphOptError
from graphopt.planner.joint import Made
from graphopt.recipe import apply_overrides, preset
from graphopt.report.stored import report_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.api.searching.ground import Ground
    from graphopt.api.searching.trial import Outcome
    from graphopt.planner.joint import Candidate, Effort, Store, Wanted
    from graphopt.recipe import Recipe
    from graphopt.workers import Crew, Parcel

LATE = "the time was up"


class Foreman:
    """Makes candidates of one model, each at most once.

    Args:
        ground: what they are made of.
        store: what was made before, and where results go.
        crew: makes them.
        deadline: of ``time.perf_counter``, after which none is begun.
    """

    def __init__(self, ground: Ground, store: Store, crew: Crew, deadline: float) -> None:
        self.ground = ground
        self.store = store
        self.crew = crew
        self.deadline = deadline
        self.made: dict[str, Made] = {}
        self.speedups: dict[str, float] = {}
        self.stopped = False
        """Whether something was left to try when the time was up."""
        self._parcels: tuple[Parcel, Parcel | str] | None = None
        self.forecast = Forecast(crew.workers)
        self._started = time.perf_counter()

    def is_late(self) -> bool:
        """Return whether the time is up."""
        return time.perf_counter() > self.deadline

    def seconds_left(self) -> float:
        """Return how long until the time is up; negative once it is."""
        return self.deadline - time.perf_counter()

    def plan(self, formats: int, wanted: Wanted, effort: Effort, *, small: bool) -> None:
        """Take note of how much is to come, for the progress bar."""
        self.forecast.plan(formats, wanted, effort, small=small, timed=self.ground.measure)
        self._show()

    def make(self, candidates: Sequence[Candidate]) -> list[Made]:
        """Return what becomes of candidates, in their order; late ones have a fault."""
        found = {c: self._known(c) for c in candidates}
        left = [c for c, made in found.items() if made is None]
        if left:
            found |= self._new(left)
        results = [made for made in found.values() if made is not None]
        for made in results:
            self.made.setdefault(made.key, made)
        self._show()
        return results

    def make_here(self, candidate: Candidate) -> Made:
        """Make a candidate in this process, its passes chosen by timing."""
        timed = clocked(candidate)
        known = self._known(timed)
        if known is not None:
            self.made.setdefault(known.key, known)
            return known
        started = time.perf_counter()
        key = timed.key(self.ground.basis)
        path = self.store.folder / "made-here.onnx"
        try:
            made = self._made_here(timed, key, path, started)
        except GraphOptError as error:
            made = Made(timed, key, fault=f"{error.code}: {error.message}")
        self.store.add(made, path if made.digest else None)
        path.unlink(missing_ok=True)
        self.made[key] = made
        # What it is timed against is known by the time another is made here.
        self.forecast.again = 0.0 if self.forecast.again else made.seconds / 2
        return made

    def _made_here(self, candidate: Candidate, key: str, path: Path, started: float) -> Made:
        ground = self.ground
        recipe = self.recipe_of(candidate)
        model = ground.source if ground.source is not None else ground.graph
        compiled = compiled_trial(
            model, ground.data, recipe, ground.registry, measure=ground.measure
        )
        score = judged(compiled, ground.guard, ground.registry)
        path.write_bytes(compiled.to_bytes())
        estimate = ground.context.cost.estimate(compiled.graph, ground.target)
        figures = figures_of(compiled.report)
        return Made(
            candidate,
            key,
            # What was timed alone is no figure to compare with: finalists are timed together.
            dataclasses.replace(figures, latency_ms=estimate.latency_ms.value),
            score.record,
            hashlib.sha256(path.read_bytes()).hexdigest(),
            report_text(compiled.report),
            seconds=time.perf_counter() - started,
        )

    def adopt(self, candidate: Candidate, made: Made) -> None:
        """Take what was made here as what ``candidate``, its settled form, would make."""
        key = candidate.key(self.ground.basis)
        known = dataclasses.replace(made, candidate=candidate, key=key)
        if self.store.find(key) is None:
            self.store.add(known, None)
        self.made.pop(made.key, None)
        self.made[key] = known

    def timed(self, made: Sequence[Made]) -> list[Made]:
        """Time models against each other, where the target is this machine.

        Returns them with latencies on the scale of the estimates, so that both can be compared.
        """
        ground = self.ground
        able = [m for m in made if m.digest and m.figures is not None]
        if not ground.measure or not able:
            return list(made)
        digests = sorted({m.digest for m in able})
        _, self.speedups = timed_finalists(self.store, digests, ground)
        self.forecast.races = 1
        return [_at(m, ground.figures.latency_ms / self.speedups[m.digest]) for m in able]

    def recipe_of(self, candidate: Candidate) -> Recipe:
        """Return the recipe of a candidate, with its overrides applied."""
        recipe = self.ground.recipe
        if candidate.recipe:
            recipe = dataclasses.replace(recipe, passes=preset(candidate.recipe).passes)
            if self.ground.recovery is not None:
                recipe = with_idle_training(recipe)
        return apply_overrides(recipe, candidate.overrides)

    def _known(self, candidate: Candidate) -> Made | None:
        key = candidate.key(self.ground.basis)
        return self.made.get(key) or self.store.find(key)

    def _new(self, candidates: Sequence[Candidate]) -> dict[Candidate, Made]:
        """Have candidates made by the crew; what was not begun in time is not kept."""
        found = {c: Made(c, c.key(self.ground.basis), fault=LATE) for c in candidates}
        if self.is_late():
            self.stopped = True
            return found
        trials = [self._trial(candidate) for candidate in candidates]
        for index, outcome in self.crew.map(run_trial, trials, label="searching"):
            candidate = candidates[index]
            found[candidate] = self._entered(candidate, outcome)
            self._show()
            if self.is_late():
                self.stopped = True
                break
        return found

    def _entered(self, candidate: Candidate, outcome: Outcome | GraphOptError) -> Made:
        key = candidate.key(self.ground.basis)
        if isinstance(outcome, GraphOptError):
            return Made(candidate, key, fault=f"{outcome.code}: {outcome.message}")
        made = Made(
            candidate,
            key,
            outcome.figures,
            outcome.score,
            outcome.model.digest if outcome.model is not None else "",
            outcome.report,
            outcome.fault,
            outcome.seconds,
        )
        self.store.add(made, outcome.model.path if outcome.model is not None else None)
        self.made[key] = made
        self.forecast.took(candidate, outcome.seconds)
        return made

    def _trial(self, candidate: Candidate) -> Trial:
        model, data = self._sent()
        ground = self.ground
        return Trial(
            candidate.label,
            model,
            data,
            self.recipe_of(candidate),
            ground.guard.state(),
            ground.registry.plugin_names,
        )

    def _sent(self) -> tuple[Parcel, Parcel | str]:
        """Return model and data as they travel; what only this process can read is an error."""
        if self._parcels is None:
            self._parcels = self._model_sent(), self._data_sent()
        return self._parcels

    def _model_sent(self) -> Parcel:
        ground = self.ground
        path = ground.source
        if path is None:
            path = self.store.folder / "original.onnx"
            ir.save(ground.graph, path)
        folder = path.resolve().parent
        files = [f for f in ir.source_files(ground.graph) if f != path.resolve()]
        # Values that this process wrote out itself are in the model file as they were.
        beside = sorted(str(f.relative_to(folder)) for f in files if f.is_relative_to(folder))
        return self.crew.parcel(path, *(name for name in beside if (folder / name).is_file()))

    def _data_sent(self) -> Parcel | str:
        data = shared_data(self.ground.data, self.store.folder)
        if not isinstance(data, Path):
            raise DataError(
                "a search reads its data in several processes, and this is a Python object",
                code="G212",
                hint="give a file, a folder, or arrays by input name",
            )
        return str(data.resolve()) if data.is_dir() else self.crew.parcel(data)

    def _show(self) -> None:
        """Tell how far the search is, in seconds: what is behind it, and what all will take."""
        observe = self.ground.observe
        if observe is None:
            return
        behind = time.perf_counter() - self._started
        left = self.forecast.remaining([m.candidate for m in self.made.values()])
        left = min(left, max(self.seconds_left(), 0.0) + self.forecast.longest)
        done = round(behind)
        observe.progress("searching", done, max(done + round(left), done + 1))


def _at(made: Made, latency_ms: float) -> Made:
    assert made.figures is not None
    return dataclasses.replace(
        made, figures=dataclasses.replace(made.figures, latency_ms=latency_ms)
    )
