"""Which of the models that were made is picked: by estimate, or by the clock where there is one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from graphopt.api.searching.formats import as_pruned
from graphopt.api.searching.race import timed_finalists
from graphopt.api.searching.storing import lighter
from graphopt.errors import LimitError, RecipeError
from graphopt.planner.joint import FASTEST, MOST_ACCURATE, RULES, Point, pick, with_expected
from graphopt.report.stored import read_report

if TYPE_CHECKING:
    from graphopt.api.compiled import Compiled
    from graphopt.api.searching.asked import Asked
    from graphopt.api.searching.foreman import Foreman
    from graphopt.api.searching.ground import Ground
    from graphopt.planner.joint import Figures, Made, Store, Wanted
    from graphopt.report import SearchRecord

_BALANCED = "balanced"
_DOUBT = 1.3
"""How far a measured latency may be below its estimate: such models are still timed."""


class Choice:
    """Decides between the models of a search.

    Args:
        ground: what the search stands on.
        store: has the models.
        foreman: made them.
        wanted: what a model has to be.
        asked: the effort, and the rule or the point that was named.
    """

    def __init__(
        self, ground: Ground, store: Store, foreman: Foreman, wanted: Wanted, asked: Asked
    ) -> None:
        self.ground = ground
        self.store = store
        self.foreman = foreman
        self.wanted = wanted
        self.asked = asked
        self.speedups: dict[str, float] = {}
        """How many times faster than the original a model was timed, by digest."""
        self.finalists: set[str] = set()
        """Those that were timed together, between which the clock decides."""
        self.original: Figures = ground.figures

    @property
    def rule(self) -> str:
        """What decides between models that hold."""
        if self.asked.pick in RULES:
            return self.asked.pick
        if self.wanted.max_drop is not None:
            return FASTEST
        return MOST_ACCURATE if self.asked.budgets.stated else _BALANCED

    def made(self) -> list[Made]:
        """Return everything that was tried, in the order of labels; measured where it was.

        Each score says what is expected on other samples, given what all lost on these.
        """
        found = sorted(self.foreman.made.values(), key=lambda m: (m.candidate.label, m.key))
        return [self._as_timed(m) for m in with_expected(found)]

    def judged(self) -> list[Made]:
        """Return the different models that were judged on all samples."""
        total = self.ground.guard.total
        known: dict[str, Made] = {}
        for made in self.made():
            if made.digest and made.score is not None and made.score.samples == total:
                known.setdefault(made.digest, made)
        return list(known.values())

    def decide(self) -> Made:
        """Return the model that is picked, or the nearest to it where none holds.

        The fastest is then stored in fewer bits, where that costs nothing that was asked for.
        """
        if self.ground.measure:
            self._time()
        named = self._named()
        if named is not None:
            return named
        found = self._decided()
        if self.rule == FASTEST and self.wanted.max_drop is not None and self.holds(found):
            return lighter(self, found)
        return found

    def _decided(self) -> Made:
        judged = self.judged()
        if self.finalists:
            judged = [m for m in judged if m.digest in self.finalists]
        holding = [m for m in judged if self.holds(m)]
        if holding:
            return pick([Point.of(m) for m in holding], self.rule).made
        accurate = [m for m in judged if self.wanted.is_accurate(m)] or judged
        if not accurate:
            raise self._nothing()
        return min(accurate, key=lambda m: max(self.excesses(m).values(), default=0.0))

    def holds(self, made: Made) -> bool:
        """Whether a model is accurate enough, and fits, as far as is known now."""
        return self.wanted.is_accurate(made) and not self.excesses(made)

    def excesses(self, made: Made) -> dict[str, float]:
        """Return by how much a model exceeds each bound that it exceeds."""
        assert made.figures is not None
        return self.wanted.budgets.excesses(made.figures, self.original)

    def demand(self, compiled: Compiled, record: SearchRecord, chosen: Made) -> None:
        """Raise LimitError G507, which carries the model, when it does not hold.

        A model that was named is what was asked for.
        """
        if self._named() is not None or self.holds(chosen):
            return
        over = ", ".join(
            f"{name.replace('_', '-')} by {100 * (excess - 1):.0f} %"
            for name, excess in self.excesses(chosen).items()
        )
        late = self.foreman.stopped
        error = LimitError(
            f"no model holds; the nearest, `{chosen.candidate.label}`, exceeds {over}",
            code="G507",
            hint=(
                "the time was up: state a longer `--time-limit`"
                if late
                else "allow more, give more data, or try `--effort thorough`"
            )
            + "; --keep writes the nearest all the same",
        )
        error.compiled, error.search = compiled, record
        raise error

    def _nothing(self) -> LimitError:
        faults = {m.fault for m in self.foreman.made.values() if m.fault}
        return LimitError(
            "nothing could be made: " + ("; ".join(sorted(faults)) or "no candidate was judged"),
            code="G507",
            hint="allow more time with `--time-limit`",
        )

    def _named(self) -> Made | None:
        """Return the point that was asked for by key."""
        name = self.asked.pick
        if name is None or name in RULES:
            return None
        found = [m for m in self.judged() if m.key.startswith(name)]
        if len(found) != 1:
            raise RecipeError(
                f"`{name}` is no point of the search",
                code="G103",
                where="--pick",
                hint=f"rules: {', '.join(RULES)}; or the key of a point, as the search lists them",
            )
        return found[0]

    # -- the clock -------------------------------------------------------------------------

    def _time(self) -> None:
        """Time the finalists; the best that was pruned is made again with its passes raced."""
        finalists = self._finalists()
        best = next((m for m in finalists if m.candidate.is_pruned), None)
        if best is not None and not self.foreman.is_late():
            settled = as_pruned(best.candidate, read_report(best.report), self.ground.registry)
            again = self.foreman.make_here(settled)
            if again.digest and again.digest not in {m.digest for m in finalists}:
                finalists.append(again)
        if finalists:
            self.finalists = {m.digest for m in finalists}
            ms, found = timed_finalists(self.store, sorted(self.finalists), self.ground)
            self.speedups = self.foreman.speedups | found
            self.foreman.forecast.races = 0
            self.original = dataclasses.replace(self.ground.figures, latency_ms=ms)

    def _finalists(self) -> list[Made]:
        """Return what may win, best first, and the most accurate of all: float."""
        judged = self.judged()
        able = [m for m in judged if self.wanted.is_accurate(m) and self._may_fit(m)] or judged
        placed = [m for m in able if m.candidate.measured]
        points = [Point.of(m) for m in able]
        ranked: list[Made] = []
        while points and len(ranked) < self.asked.effort.finalists:
            best = pick(points, self.rule)
            points.remove(best)
            ranked.append(best.made)
        exact = pick([Point.of(m) for m in judged], MOST_ACCURATE).made if judged else None
        extra = [m for m in (*placed, exact) if m is not None and m not in ranked]
        return [*ranked, *extra]

    def _may_fit(self, made: Made) -> bool:
        excesses = self.excesses(made)
        return set(excesses) <= {"max_latency"} and all(e <= _DOUBT for e in excesses.values())

    def _as_timed(self, made: Made) -> Made:
        """Return a model with its measured latency; others are put on the clock's scale."""
        if made.figures is None or not self.speedups:
            return made
        estimated = self.ground.figures.latency_ms / max(made.figures.latency_ms, 1e-9)
        speedup = self.speedups.get(made.digest, estimated)
        latency_ms = self.original.latency_ms / speedup
        return dataclasses.replace(
            made, figures=dataclasses.replace(made.figures, latency_ms=latency_ms)
        )
