"""Exact passes are run one after the other and checked together; a fault is traced to its pass."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.errors import GraphOptError
from graphopt.pipeline.state import State, apply, options_of
from graphopt.pipeline.verifier import ExactCheck, as_pass_error
from graphopt.report import Notice, PassRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline.context import PipelineContext
    from graphopt.pipeline.verifier import Verifier
    from graphopt.runtime import Census


_PREFIX = re.compile(r"^(?:Fused|Fast|Quick|Bias|Skip|Nhwc)*")
"""What names of fused kernels begin with before the operator that they replace."""


@dataclass(frozen=True)
class Trial:
    """What one pass did: the state that it left when it changed anything, or why it failed."""

    step: Pass
    record: PassRecord
    state: State | None = None
    error: GraphOptError | None = None


@dataclass(frozen=True)
class _Verdict:
    """How many of the changes are good, how they were checked, and what is wrong with the next."""

    good: int
    check: ExactCheck | None = None
    error: GraphOptError | None = None


@dataclass
class ExactBatch:
    """Checks the graph after a group of exact passes, and looks for the guilty one if it is wrong.

    There is one check where nothing is wrong; otherwise their number grows with the logarithm of
    that of the passes, for each pass that is at fault.

    Args:
        context: what the passes are given.
        verifier: compares with the original.
        limit: largest relative error.
        provider_of: names who ships a pass.
        started: is told the name of each pass when it starts for the first time.
        settled: is told what became of each pass, in order, once that is certain.
    """

    context: PipelineContext
    verifier: Verifier
    limit: float
    provider_of: Callable[[str], str]
    started: Callable[[str], None]
    settled: Callable[[Trial], None]
    _checks: dict[str, ExactCheck | GraphOptError] = field(default_factory=dict)
    _censuses: dict[str, Census | None] = field(default_factory=dict)

    def run(self, graph: Graph, steps: Sequence[Pass]) -> None:
        """Run passes on a graph in place; those at fault are undone, and the others run without.

        Raises:
            PassError: G310, a pass did what cannot be undone.
        """
        base, rest, announced = State.of(graph), list(steps), 0
        while rest:
            trials: list[Trial] = []
            for position, step in enumerate(rest):
                if len(steps) - len(rest) + position >= announced:
                    self.started(step.name)
                    announced += 1
                trials.append(self._try(graph, step, base, trials))
            changed = [t for t in trials if t.state is not None]
            verdict = self._judged(base, changed)
            if verdict.error is None:
                self._accept(trials, verdict)
                return
            guilty = changed[verdict.good]
            done = trials.index(guilty)
            self._accept(trials[:done], verdict)
            base = _state(changed[verdict.good - 1]) if verdict.good else base
            base.restore(graph, guilty.step.name)
            self.settled(self._failed(guilty, verdict.error))
            rest = rest[done + 1 :]

    def _try(self, graph: Graph, step: Pass, base: State, before: Sequence[Trial]) -> Trial:
        last = next((t.state for t in reversed(before) if t.state is not None), base)
        try:
            record, digest = apply(graph, step, self.context, last.digest)
        except Exception as raised:
            error = as_pass_error(raised, step.name, self.provider_of(step.name))
            last.restore(graph, step.name)
            empty = PassRecord(step.name, step.effect.value, options_of(step), "rolled back", 0.0)
            return self._failed(Trial(step, empty), error)
        state = State.of(graph, digest) if record.status == "changed" else None
        return Trial(step, record, state)

    def _failed(self, trial: Trial, error: GraphOptError) -> Trial:
        record = dataclasses.replace(
            trial.record, status="rolled back", notes=(), metrics={}, reason=error.message
        )
        return Trial(trial.step, record, None, error)

    def _accept(self, trials: Sequence[Trial], verdict: _Verdict) -> None:
        """Report trials as they are; what was measured after the last of them goes for all."""
        check = verdict.check
        if check is not None and check.census is not None:
            self.verifier.census = check.census
        for trial in trials:
            if trial.state is not None and check is not None:
                record = dataclasses.replace(trial.record, max_error=check.max_error)
                self.settled(dataclasses.replace(trial, record=record))
            else:
                self.settled(trial)

    def _judged(self, base: State, changed: Sequence[Trial]) -> _Verdict:
        """Find the first change after which outputs are wrong or a fusion is lost."""
        if not changed:
            return _Verdict(0)
        found = self._first_wrong(base, changed) or self._first_loss(base, changed)
        if found is None:
            check = self._check(_state(changed[-1]))
            assert isinstance(check, ExactCheck)
            return _Verdict(len(changed), check)
        index, error = found
        # What comes before it must be good for itself.
        before = self._judged(base, changed[:index])
        return before if before.error is not None else _Verdict(index, before.check, error)

    def _first_wrong(
        self, base: State, changed: Sequence[Trial]
    ) -> tuple[int, GraphOptError] | None:
        """Search for a change with right outputs before it and wrong ones after it."""
        right, wrong = -1, len(changed) - 1
        if self._error(changed[wrong]) is None:
            return None
        while wrong - right > 1:
            middle = (right + wrong) // 2
            if self._error(changed[middle]) is None:
                right = middle
            else:
                wrong = middle
        error = self._error(changed[wrong])
        assert error is not None
        return wrong, error

    def _error(self, trial: Trial) -> GraphOptError | None:
        """Return what is wrong with the outputs after a change."""
        name = trial.step.name
        try:
            found = self._check(_state(trial))
            if isinstance(found, GraphOptError):
                raise found
            self.verifier.demand_exact(ExactCheck(found.max_error, {}), self.limit, name)
        except GraphOptError as error:
            return as_pass_error(error, name, self.provider_of(name))
        return None

    def _check(self, state: State) -> ExactCheck | GraphOptError:
        if state.digest not in self._checks:
            try:
                check = self.verifier.check_exact(state.graph, self.limit, state.digest)
                self._checks[state.digest] = check
                self._censuses[state.digest] = check.census
            except GraphOptError as error:
                self._checks[state.digest] = error
        return self._checks[state.digest]

    def _first_loss(
        self, base: State, changed: Sequence[Trial]
    ) -> tuple[int, GraphOptError] | None:
        """Search for a change after which the runtime fuses less, though it runs no less."""
        self._censuses.setdefault(base.digest, self.verifier.census)
        states = [base, *map(_state, changed)]
        found = self._loss(states, 0, len(changed))
        if found is None:
            return None
        trial, lost = changed[found[0] - 1], found[1]
        name = trial.step.name
        try:
            self.verifier.demand_exact(ExactCheck(None, lost), self.limit, name)
        except GraphOptError as error:
            return found[0] - 1, as_pass_error(error, name, self.provider_of(name))
        return None

    def _loss(
        self, states: Sequence[State], first: int, last: int
    ) -> tuple[int, dict[str, int]] | None:
        """Divide the changes as long as there are fewer fusions behind them than before them."""
        before, after = self._census(states[first]), self._census(states[last])
        if before is None or after is None:
            return None
        fewer = [kind for kind, count in before.fused.items() if after.fused[kind] < count]
        if not fewer:
            return None
        suspect = _suspect(states, first, last, fewer)
        middles = sorted(range(first + 1, last), key=lambda i: abs(2 * i - 2 * suspect + 1))
        middle = next((i for i in middles if self._census(states[i]) is not None), None)
        if middle is not None:
            return self._loss(states, first, middle) or self._loss(states, middle, last)
        lost = before.lost(after)
        return (last, lost) if lost else None

    def _census(self, state: State) -> Census | None:
        if state.digest not in self._censuses:
            try:
                self._censuses[state.digest] = self.verifier.count(state.graph, state.digest)
            except GraphOptError:
                # A graph that does not run, and that a later pass repairs.
                self._censuses[state.digest] = None
        return self._censuses[state.digest]


def _suspect(states: Sequence[State], first: int, last: int, fewer: Sequence[str]) -> int:
    """Return the state after which most operators are gone that the lost kernels are made of."""
    made_of = {_PREFIX.sub("", kind) for kind in fewer}

    def held(state: State) -> int:
        return len(state.graph.nodes(*made_of))

    counts = [held(state) for state in states[first : last + 1]]
    drops = [before - after for before, after in itertools.pairwise(counts)]
    return first + 1 + drops.index(max(drops))


def _state(trial: Trial) -> State:
    assert trial.state is not None
    return trial.state


def notice_of(trial: Trial) -> Notice | None:
    """Return what the user is told about a pass that failed."""
    error = trial.error
    if error is None:
        return None
    return Notice(error.code, f"{error.message}; it was rolled back", error.hint)
