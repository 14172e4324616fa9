"""Decides what a recipe leaves open: which placement of integer operators is fastest.

Integer is not faster by itself: a depthwise convolution, a thin first layer or a small tail often
loses, and every change of precision costs. So a few placements that win in practice are made and
compared: on the host by timing them, elsewhere by the target's cost model. Float is always among
them, so that nothing gets slower by being quantized.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.report import CandidateRecord
from graphopt.runtime import HEAVY, open_session, race

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.quantize.insert_qdq import InsertQdq
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.recipe import Limits
    from graphopt.runtime import Session

    Feed = Mapping[str, np.ndarray[Any, Any]]

FLOAT = "float"
PLACEMENTS = (
    "integer",
    "head-1",
    "tail-1",
    "head-1-tail-1",
    "head-2",
    "head-2-tail-1",
    "head-3",
)
"""Winning shapes: a float head, an integer body, sometimes a float tail; alternating loses."""

_LARGE_BYTES = 64 << 20
_LARGE_PLACEMENTS = ("integer", "head-1")
_FINALISTS = 3
_EQUAL = 0.01
"""Speeds closer than this are equal for a timing on a shared machine; accuracy decides then."""
_DOUBT = 0.02
"""All-integer, and padding, nearly always pay; only a clear loss speaks against them."""

_WORTH = 0.04
"""Gain over float that is worth the loss of accuracy, and that noise does not produce."""
_HOPELESS = 0.6
"""All-integer at less than this speed of float: no float head or tail will make up for it."""
_PATIENCE = 0.5
"""Seconds after which no further candidate is made, when they are timed."""
_CLEARLY = 0.95
"""What is slower than this share of all-integer is not varied any further."""
_SNR_SAMPLES = 8


@dataclass(frozen=True)
class Candidate:
    """One placement, made: its graph, and how far its outputs are from the original's."""

    step: InsertQdq
    graph: Graph
    session: Session
    snr_db: float | None

    @property
    def label(self) -> str:
        """How reports call it."""
        return self.step.placement + ("" if self.step.align else ", not padded")


@dataclass(frozen=True)
class Decision:
    """The pass with the options to use, and everything that was considered."""

    step: InsertQdq
    candidates: tuple[CandidateRecord, ...] = ()


def choose_placement(
    graph: Graph,
    step: InsertQdq,
    context: PipelineContext,
    verifier: Verifier,
    limits: Limits,
    *,
    measure: bool,
    seconds: float,
) -> Decision:
    """Return the fastest placement whose outputs stay within the limits.

    Args:
        graph: ready for insert-qdq; not changed.
        step: the pass with its other options.
        context: has the calibrated ranges.
        verifier: compares with the original.
        limits: candidates below ``min_snr_db`` are out.
        measure: time the candidates here; otherwise ask the cost model.
        seconds: how long to time all candidates together, about.
    """
    in_float = dataclasses.replace(step, placement=FLOAT)
    if not context.has_data:
        return Decision(in_float)
    judge = _Stopwatch(graph, verifier, seconds) if measure else _Forecast(graph, context)
    workshop = _Workshop(graph, step, context, verifier, limits)
    candidates = _candidates(workshop, judge)
    if not candidates:
        return Decision(in_float, tuple(workshop.rejected))
    speeds = judge.speeds(candidates)
    chosen = _best(speeds, candidates, prefers_small=not measure)
    if chosen is not None:
        chosen, speeds = _padded_or_not(chosen, speeds, candidates, workshop, judge)
    records = [
        CandidateRecord(c.label, speeds[c.label], judge.source, c.snr_db, c is chosen)
        for c in candidates
    ]
    # The race compares with the optimised float graph, so that is what float is one times.
    records.append(CandidateRecord(FLOAT, 1.0, judge.source, None, chosen is None))
    return Decision(chosen.step if chosen else in_float, (*records, *workshop.rejected))


class _Workshop:
    """Makes candidates: quantizes a copy of the graph and compares it with the original."""

    def __init__(
        self,
        graph: Graph,
        step: InsertQdq,
        context: PipelineContext,
        verifier: Verifier,
        limits: Limits,
    ) -> None:
        self.graph = graph
        self.step = step
        self.context = context
        self.verifier = verifier
        self.limits = limits
        self.rejected: list[CandidateRecord] = []
        self._seen = {ir.structural_hash(graph)}
        context.running = step.name

    def make(self, **options: object) -> Candidate | None:
        """Return the candidate with these options; None when it is nothing new, or too noisy."""
        step = dataclasses.replace(self.step, **options)  # type: ignore[arg-type]
        made = self.graph.copy()
        # What a trial says about nodes is not what will be done to them.
        with self.context.without_explanations():
            step.run(made, self.context)
        made.sort()
        digest = ir.structural_hash(made)
        if digest in self._seen:
            return None
        self._seen.add(digest)
        session = open_session(made, target=self.verifier.target)
        snr = self.verifier.snr(session, _SNR_SAMPLES)
        candidate = Candidate(step, made, session, snr)
        limit = self.limits.min_snr_db
        if snr is not None and not snr >= limit:
            why = f"below the limit of {limit:g} dB"
            self.rejected.append(
                CandidateRecord(candidate.label, None, "measured", snr, False, why)
            )
            return None
        return candidate


def _candidates(workshop: _Workshop, judge: _Stopwatch | _Forecast) -> list[Candidate]:
    """Make the placements that differ, leaving out variations of what clearly loses."""
    heavy = len(workshop.graph.nodes(*HEAVY))
    large = ir.tensor_bytes(workshop.graph) > _LARGE_BYTES
    placements = _LARGE_PLACEMENTS if large else PLACEMENTS
    kept: list[Candidate] = []
    speeds: dict[str, float] = {}
    started = time.perf_counter()
    for placement in workshop.context.progress(placements, len(placements), "placing"):
        if _is_ruled_out(placement, speeds):
            continue
        candidate = workshop.make(placement=placement)
        if candidate is None:
            continue
        kept.append(candidate)
        if len(kept) in {1, 3}:
            speeds = judge.glance(kept)
        if heavy < 2 or speeds[kept[0].label] < _HOPELESS:
            break
        # An estimate must not depend on how busy the machine is; a timing does anyway.
        if judge.is_timed and len(kept) >= 3 and time.perf_counter() - started > _PATIENCE:
            break
    return kept


def _is_ruled_out(placement: str, speeds: Mapping[str, float]) -> bool:
    """Whether a longer float head, or a float tail, has been seen to lose against all-integer."""
    integer = speeds.get("integer", 0.0)
    loses = {end for end in ("head-1", "tail-1") if speeds.get(end, integer) < integer * _CLEARLY}
    deeper = placement.startswith(("head-2", "head-3")) and "head-1" in loses
    return deeper or (placement.endswith("-tail-1") and "tail-1" in loses)


def _padded_or_not(
    chosen: Candidate,
    speeds: dict[str, float],
    candidates: list[Candidate],
    workshop: _Workshop,
    judge: _Stopwatch | _Forecast,
) -> tuple[Candidate, dict[str, float]]:
    """Try the winner without padded channels too; padding is exact but costs on tiny models."""
    if not workshop.step.align:
        return chosen, speeds
    other = workshop.make(placement=chosen.step.placement, align=False)
    if other is None:
        return chosen, speeds
    pair = judge.speeds([chosen, other])
    # Both speeds from the same rounds, then placed where the first race put the winner.
    speeds = {**speeds, other.label: speeds[chosen.label] * pair[other.label] / pair[chosen.label]}
    candidates.append(other)
    is_faster = pair[other.label] > pair[chosen.label] * (1 + _DOUBT)
    return (other if is_faster else chosen), speeds


class _Stopwatch:
    """Times candidates on this machine, against the optimised float graph."""

    source = "measured"
    is_timed = True

    def __init__(self, graph: Graph, verifier: Verifier, seconds: float) -> None:
        self.feeds = [feed for feed, _ in verifier.held_out[:4]] or list(verifier.probes.feeds[:1])
        self.float = verifier.open(graph)[0]
        self.seconds = seconds

    def speeds(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Race all candidates briefly, then the best few again; the second race counts."""
        if len(candidates) <= 2:
            return self.glance(candidates)
        sessions = {c.label: c.session for c in candidates}
        speeds = self._race(sessions, self.seconds / 2)
        finalists = sorted(speeds, key=lambda p: -speeds[p])[:_FINALISTS]
        return speeds | self._race({p: sessions[p] for p in finalists}, self.seconds / 2)

    def glance(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Race all candidates once, briefly."""
        return self._race({c.label: c.session for c in candidates}, self.seconds / 4)

    def _race(self, sessions: Mapping[str, Session], seconds: float) -> dict[str, float]:
        result = race({**sessions, FLOAT: self.float}, self.feeds, seconds=seconds, min_rounds=5)
        return {name: result.speedup_of_quartiles(name, FLOAT) for name in sessions}


class _Forecast:
    """Asks the cost model, where the target is not this machine."""

    source = "estimated"
    is_timed = False

    def __init__(self, graph: Graph, context: PipelineContext) -> None:
        self.context = context
        self.float_ms = context.cost.estimate(graph, context.target).latency_ms.value

    def glance(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Estimate; there is nothing quicker."""
        return self.speeds(candidates)

    def speeds(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Return the estimated speed of each candidate against the optimised float graph."""
        cost, target = self.context.cost, self.context.target
        return {
            c.label: self.float_ms / cost.estimate(c.graph, target).latency_ms.value
            for c in candidates
        }


def _best(
    speeds: Mapping[str, float], candidates: Sequence[Candidate], *, prefers_small: bool
) -> Candidate | None:
    """Return the fastest; all-integer in doubt, or the more accurate of equals; None for float.

    Where speed is only estimated, a placement that is as fast as float is taken all the same: the
    file is a quarter of the size.
    """
    top = max(speeds[c.label] for c in candidates)
    if top < (1.0 if prefers_small else 1.0 + _WORTH):
        return None
    whole = candidates[0]
    if whole.step.placement == "integer" and speeds[whole.label] >= top * (1 - _DOUBT):
        return whole
    equals = [c for c in candidates if speeds[c.label] >= top * (1 - _EQUAL)]
    return max(equals, key=lambda c: c.snr_db if c.snr_db is not None else 0.0)
