"""Decides what a recipe leaves open: which operators run in integer, and how, to be fastest.

Integer is not faster by itself: a depthwise convolution, a thin first layer or a small tail often
loses, and every change of precision costs. So a few plans that win in practice are made and
compared: on the host by timing them, elsewhere by the target's cost model. Float is always among
them, so that nothing gets slower by being quantized.
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt import ir
from graphopt.cost.work import macs_of
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls, gains
from graphopt.passes.recover.equalize_clipped_layers import EqualizeClippedLayers
from graphopt.passes.rewrite.align_channels import AlignChannels
from graphopt.planner.cuts import patterns, propose_cuts
from graphopt.planner.judges import Forecast, Stopwatch
from graphopt.planner.plan import FLOAT, Plan, is_open
from graphopt.planner.workshop import Workshop
from graphopt.report import CandidateRecord
from graphopt.runtime import HEAVY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.planner.judges import Judge
    from graphopt.planner.workshop import Candidate
    from graphopt.recipe import Limits

PLACEMENTS = ("integer", "head-1", "head-2", "head-3")
"""Winning shapes: a float head and an integer body; a float tail is tried with the winner."""

_LARGE_BYTES = 64 << 20
_LARGE_PLACEMENTS = ("integer", "head-1")
_EQUAL = 0.01
"""Speeds closer than this are equal for a timing on a shared machine; accuracy decides then."""
_DOUBT = 0.02
"""All-integer, and padding, nearly always pay; only a clear loss speaks against them."""

_WORTH = 0.04
"""Gain over float that is worth the loss of accuracy, and that noise does not produce."""
_HOPELESS = 0.6
"""All-integer at less than this speed of float: no float head or tail will make up for it."""
_PATIENCE = 3.0
"""Seconds after which no further candidate is made, when they are timed."""
_CLEARLY = 0.95
"""What is slower than this share of all-integer is not varied any further."""
_EQUALIZE = EqualizeClippedLayers.name
_NEARER_DB = 0.5
"""Gain in signal-to-noise ratio that is worth clipping what the data did not show."""
_QUIET_DB = 28.0
"""Signal-to-noise ratio above which a longer float head is not looked for: what is lost below it
shows in decisions, above it hardly."""
_LONG_HEAD = 6
"""Operators of the shortest head that is tried for its accuracy; each next one is twice as long."""
_MORE_PATIENCE = 3.0
"""Seconds that longer heads may take beyond those of the other candidates, when they are timed."""
_MATTERS = 0.1
"""Share of the work that products must have for another way to compute them to matter."""


@dataclass(frozen=True)
class Decision:
    """The open passes with the options to use, and everything that was considered."""

    steps: tuple[Pass, ...]
    candidates: tuple[CandidateRecord, ...] = ()


def choose_plan(
    graph: Graph,
    steps: Sequence[Pass],
    context: PipelineContext,
    verifier: Verifier,
    limits: Limits,
    *,
    measure: bool,
    seconds: float,
) -> Decision:
    """Return the passes with the options that make the fastest model within the limits.

    Args:
        graph: ready for the first of ``steps``; not changed.
        steps: consecutive passes of the recipe, some of them open.
        context: has the calibrated ranges.
        verifier: compares with the original.
        limits: candidates below ``min_snr_db`` are out.
        measure: time the candidates here; otherwise ask the cost model.
        seconds: how long to time all candidates together, about.
    """
    closed = Plan.closed(steps)
    if not context.has_data:
        return Decision(closed.steps)
    judge = Stopwatch(graph, verifier, seconds) if measure else Forecast(graph, context)
    search = _Search(Workshop(graph, context, verifier, limits), judge, steps, closed)
    search.run()
    if not search.kept:
        return Decision(closed.steps, tuple(search.workshop.rejected))
    chosen = search.decide()
    records = [
        CandidateRecord(c.label, search.speeds[c.label], judge.source, c.snr_db, c is chosen)
        for c in search.kept
    ]
    # The race compares with the optimised float graph, so that is what float is one times.
    records.append(CandidateRecord(FLOAT, 1.0, judge.source, None, chosen is None))
    plan = search.nearest(chosen) if chosen else closed
    return Decision(plan.steps, (*records, *search.workshop.rejected))


@dataclass
class _Search:
    """One search: what was made so far, and how fast it is."""

    workshop: Workshop
    judge: Judge
    steps: Sequence[Pass]
    closed: Plan
    kept: list[Candidate] = field(default_factory=list)
    speeds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @property
    def is_late(self) -> bool:
        """Whether the search took long enough."""
        return self._lasts_longer_than(_PATIENCE)

    def _lasts_longer_than(self, seconds: float) -> bool:
        # An estimate must not depend on the time.
        return self.judge.is_timed and time.perf_counter() - self.started > seconds

    def run(self) -> None:
        """Make the candidates that differ, leaving out variations of what clearly loses."""
        base = self._aligned(self.closed)
        self._try_products(base)
        if self._opens(InsertQdq.name):
            self._try_placements(base)

    def decide(self) -> Candidate | None:
        """Race what was kept, vary the winner, and return it; None for float."""
        self.speeds = self.judge.speeds(self.kept)
        if self.judge.is_timed:
            self._confirm()
        chosen = self._best()
        if chosen is None or chosen.plan.is_exact:
            return chosen
        chosen = self._quieter(chosen)
        for other in self._variations(chosen.plan):
            if self.is_late:
                break
            chosen = self._better(chosen, other)
        return chosen

    def _confirm(self) -> None:
        """Race those that may win once more: what is chosen in doubt must not be so by luck."""
        ranked = sorted(self.kept, key=lambda c: -self.speeds[c.label])
        rivals = ranked[:2] + [c for c in ranked[2:] if _is_whole(c.plan)]
        if len(rivals) > 1:
            for label, speed in self.judge.glance(rivals).items():
                self.speeds[label] = math.sqrt(self.speeds[label] * speed)

    def _quieter(self, chosen: Candidate) -> Candidate:
        """Return a plan with a longer float head, where the model is noisy and that costs little.

        The noise of the first operators goes through all the others. In a network that thins out
        they have few weights, and large tensors whose integers hardly pay.
        """
        insert, first = chosen.plan.insert, self.closed.insert
        if insert is None or first is None or not self._opens(InsertQdq.name):
            return chosen
        most = len(self.workshop.graph.nodes(*HEAVY)) // 2
        least = self.speeds[chosen.label] * (1 - (_WORTH if self.judge.is_timed else 0.0))
        base = chosen.plan.having(InsertQdq.name, exclude=first.exclude)
        length = max(_LONG_HEAD, 2 * _head_of(insert.placement))
        best = self.workshop.snr(chosen)
        while length <= most and best < _QUIET_DB:
            if self._lasts_longer_than(_PATIENCE + _MORE_PATIENCE):
                break
            other = self._make(base.placed(f"head-{length}"))
            length *= 2
            # One that is slower says little of the next: borders are elsewhere, and clocks vary.
            if other is None or self._raced(chosen, other) < least:
                continue
            if self.workshop.snr(other) >= best + _NEARER_DB:
                chosen, best = other, self.workshop.snr(other)
        return chosen

    def nearest(self, chosen: Candidate) -> Plan:
        """Return the plan with what costs no time and is nearer to the original."""
        return self._rounded(self._equalized(chosen))

    def _equalized(self, chosen: Candidate) -> Candidate:
        """Scale channels up to their Clip where that is clearly nearer to the original."""
        insert = chosen.plan.insert
        if insert is None or insert.placement == FLOAT or not self._opens(_EQUALIZE):
            return chosen
        other = self.workshop.make(chosen.plan.having(_EQUALIZE, mode="on"))
        if other is None:
            return chosen
        gain_db = self.workshop.snr(other) - self.workshop.snr(chosen)
        return other if gain_db >= _NEARER_DB else chosen

    def _rounded(self, chosen: Candidate) -> Plan:
        """Return the plan with the rounding of weights that is nearer to the original."""
        insert = chosen.plan.insert
        if insert is None or insert.rounding != "auto" or insert.placement == FLOAT:
            return chosen.plan
        nearer = "balanced"
        learned = self.workshop.make(chosen.plan, rounding="learned")
        if learned is not None and self.workshop.snr(learned) > self.workshop.snr(chosen):
            nearer = "learned"
        return chosen.plan.having(InsertQdq.name, rounding=nearer)

    def _opens(self, name: str) -> bool:
        return any(s.name == name and is_open(s) for s in self.steps)

    def _make(self, plan: Plan) -> Candidate | None:
        candidate = self.workshop.make(plan)
        if candidate is not None:
            self.kept.append(candidate)
        return candidate

    def _aligned(self, plan: Plan) -> Plan:
        """Return the plan with padded channels, where the target has kernels that want them."""
        if not self._opens(AlignChannels.name):
            return plan
        padded = plan.having(AlignChannels.name, mode="on")
        # An estimate does not tell kernels apart by their blocks: padding is for integers there.
        trial = self.workshop.make(padded)
        if trial is None:
            return plan
        if self.judge.is_timed:
            self.kept.append(trial)
        return padded

    def _try_products(self, base: Plan) -> None:
        """Try products that are scaled at run time, with nothing and with convolutions static."""
        if not self._opens(QuantizeMatmuls.name) or not _products_matter(self.workshop.graph):
            return
        by_rows = self.closed.having(QuantizeMatmuls.name, mode="by-rows")
        self._make(by_rows)
        if self._opens(InsertQdq.name) and self.workshop.graph.nodes("Conv"):
            both = base.placed("integer").having(QuantizeMatmuls.name, mode="by-rows")
            self._make(both.having(InsertQdq.name, matmuls=False))

    def _try_placements(self, base: Plan) -> None:
        graph = self.workshop.graph
        large = ir.tensor_bytes(graph) > _LARGE_BYTES
        placements = _LARGE_PLACEMENTS if large else PLACEMENTS
        placed: dict[str, Candidate] = {}
        speeds: dict[str, float] = {}
        for placement in self.workshop.context.progress(placements, len(placements), "placing"):
            if _is_ruled_out(placement, speeds):
                continue
            candidate = self._make(base.placed(placement))
            if candidate is None:
                continue
            placed[placement] = candidate
            if len(placed) <= 2:
                found = self.judge.glance(list(placed.values()))
                speeds = {p: found[c.label] for p, c in placed.items()}
            if placement == "integer":
                self._try_cuts(base, candidate)
            if len(graph.nodes(*HEAVY)) < 2 or speeds.get("integer", 1.0) < _HOPELESS:
                break
            if self.is_late and len(placed) >= 3:
                break

    def _try_cuts(self, base: Plan, integer: Candidate) -> None:
        """Try the minimum cuts between float and integer."""
        graph = self.workshop.prepared(base)
        insert = integer.plan.insert
        assert insert is not None
        for number, kept in enumerate(propose_cuts(graph, integer, self.judge), start=1):
            exclude = (*insert.exclude, *patterns(kept))
            self._make(base.placed("integer").having(InsertQdq.name, cut=number, exclude=exclude))

    def _variations(self, plan: Plan) -> Iterator[Plan]:
        """Yield the plan with one option the other way; padding is exact but may cost."""
        insert = plan.insert
        if insert is not None and insert.placement != FLOAT:
            if self._opens(InsertQdq.name) and plan.cut is None:
                head = "" if insert.placement == "integer" else f"{insert.placement}-"
                yield plan.placed(f"{head}tail-1")
            if insert.align and self._opens(InsertQdq.name):
                yield plan.having(InsertQdq.name, align=False)
            if plan.matmuls == "off" and self._opens(QuantizeMatmuls.name):
                yield plan.having(QuantizeMatmuls.name, mode="by-rows")
        if plan.aligned and self._opens(AlignChannels.name):
            yield plan.having(AlignChannels.name, mode="off")

    def _better(self, chosen: Candidate, plan: Plan) -> Candidate:
        """Return the variation if it is clearly faster than what was chosen so far."""
        other = self._make(plan)
        if other is None:
            return chosen
        faster = self._raced(chosen, other) > self.speeds[chosen.label] * (1 + _DOUBT)
        return other if faster else chosen

    def _raced(self, chosen: Candidate, other: Candidate) -> float:
        """Return the speed of a candidate that was not in the first race."""
        pair = self.judge.speeds([chosen, other])
        # Both speeds from the same rounds, then placed where the first race put the winner.
        ratio = pair[other.label] / pair[chosen.label]
        self.speeds[other.label] = self.speeds[chosen.label] * ratio
        return self.speeds[other.label]

    def _best(self) -> Candidate | None:
        """Return the fastest; all-integer in doubt, or the more accurate of equals; None for float.

        Where speed is only estimated, what is as fast as float is taken all the same: the file is
        a quarter of the size.
        """
        exact = [c for c in self.kept if c.plan.is_exact]
        others = [c for c in self.kept if not c.plan.is_exact]
        floor = max((self.speeds[c.label] for c in exact), default=1.0)
        floor = max(floor, 1.0)
        top = max((self.speeds[c.label] for c in others), default=0.0)
        if top < floor * (1.0 + _WORTH if self.judge.is_timed else 1.0):
            return exact[0] if exact and floor > 1.0 + _DOUBT else None
        whole = next((c for c in others if _is_whole(c.plan)), None)
        if whole is not None and self.speeds[whole.label] >= top * (1 - _DOUBT):
            return whole
        equals = [c for c in others if self.speeds[c.label] >= top * (1 - _EQUAL)]
        return max(equals, key=lambda c: c.snr_db if c.snr_db is not None else 0.0)


def _is_whole(plan: Plan) -> bool:
    insert = plan.insert
    return (
        insert is not None
        and insert.placement == "integer"
        and not (insert.exclude or not insert.matmuls)
    )


def _head_of(placement: str) -> int:
    """Return how many operators at the front a placement leaves in float."""
    found = re.match(r"head-(\d+)", placement)
    return int(found[1]) if found else 0


def _is_ruled_out(placement: str, speeds: dict[str, float]) -> bool:
    """Whether a longer float head has been seen to lose against all-integer."""
    integer = speeds.get("integer", 0.0)
    loses = speeds.get("head-1", integer) < integer * _CLEARLY
    return loses and placement in {"head-2", "head-3"}


def _products_matter(graph: Graph) -> bool:
    """Whether products that gain by scales found at run time are much of the model's work."""
    eligible = [n for n in graph.nodes("MatMul", "Gemm") if gains(n)]
    work = sum(macs_of(n) for n in graph.nodes())
    return bool(eligible) and sum(macs_of(n) for n in eligible) >= _MATTERS * work
