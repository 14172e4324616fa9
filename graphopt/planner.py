"""Decides what a recipe leaves open: which placement of integer operators is fastest.

Integer is not faster by itself: a depthwise convolution, a thin first layer or a small tail often
loses, and every change of precision costs. So a few placements that win in practice are made and
compared: on the host by timing them, elsewhere by the target's cost model. Float is always among
them, so that nothing gets slower by being quantized.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.report import CandidateRecord
from graphopt.runtime import HEAVY, open_session, race

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.insert_qdq import InsertQdq
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.recipe import Limits
    from graphopt.runtime import Session

    Feed = Mapping[str, np.ndarray[Any, Any]]

FLOAT = "float"
PLACEMENTS = (
    "integer",
    "tail-1",
    "head-1",
    "head-1-tail-1",
    "head-2",
    "head-2-tail-1",
    "head-3",
)
"""Winning shapes: a float head, an integer body, sometimes a float tail; alternating loses."""

_LARGE_BYTES = 64 << 20
_LARGE_PLACEMENTS = ("integer", "head-1")
_FINALISTS = 3
_EQUAL = 0.02
"""Speeds closer than this are equal for a timing on a shared machine; accuracy decides then."""
_WORTH = 0.04
"""Gain over float that is worth the loss of accuracy, and that noise does not produce."""
_HOPELESS = 0.6
"""All-integer at less than this speed of float: no float head or tail will make up for it."""
_SNR_SAMPLES = 8


@dataclass(frozen=True)
class Candidate:
    """One placement, made: its graph, and how far its outputs are from the original's."""

    placement: str
    graph: Graph
    session: Session
    snr_db: float | None


@dataclass(frozen=True)
class Decision:
    """The placement to use, and everything that was considered."""

    placement: str
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
    if not context.has_data:
        return Decision(FLOAT)
    judge = _Stopwatch(graph, verifier, seconds) if measure else _Forecast(graph, context)
    candidates, rejected = _candidates(graph, step, context, verifier, limits, judge)
    if not candidates:
        return Decision(FLOAT, tuple(rejected))
    speeds = judge.speeds(candidates)
    source = judge.source
    chosen = _best(speeds, candidates, prefers_small=not measure)
    records = [
        CandidateRecord(c.placement, speeds[c.placement], source, c.snr_db, c is chosen)
        for c in candidates
    ]
    # The race compares with the optimised float graph, so that is what float is one times.
    records.append(CandidateRecord(FLOAT, 1.0, source, None, chosen is None))
    return Decision(chosen.placement if chosen else FLOAT, (*records, *rejected))


def _candidates(
    graph: Graph,
    step: InsertQdq,
    context: PipelineContext,
    verifier: Verifier,
    limits: Limits,
    judge: _Stopwatch | _Forecast,
) -> tuple[list[Candidate], list[CandidateRecord]]:
    """Make the placements that differ; give up early where integer is far too slow."""
    heavy = len(graph.nodes(*HEAVY))
    large = ir.tensor_bytes(graph) > _LARGE_BYTES
    placements = _LARGE_PLACEMENTS if large else PLACEMENTS
    kept: list[Candidate] = []
    rejected: list[CandidateRecord] = []
    seen = {ir.structural_hash(graph)}
    context.running = step.name
    for placement in context.progress(placements, len(placements), "placing"):
        made = graph.copy()
        dataclasses.replace(step, placement=placement).run(made, context)
        made.sort()
        digest = ir.structural_hash(made)
        if digest in seen:
            continue
        seen.add(digest)
        session = open_session(made, target=verifier.target)
        snr = verifier.snr(session, _SNR_SAMPLES)
        if snr is not None and not snr >= limits.min_snr_db:
            why = f"{snr:.1f} dB is below the limit of {limits.min_snr_db:g} dB"
            rejected.append(CandidateRecord(placement, 0.0, "measured", snr, False, why))
            continue
        kept.append(Candidate(placement, made, session, snr))
        if heavy < 2 or (len(kept) == 1 and judge.speeds(kept)[placement] < _HOPELESS):
            break
    return kept, rejected


class _Stopwatch:
    """Times candidates on this machine, against the optimised float graph."""

    source = "measured"

    def __init__(self, graph: Graph, verifier: Verifier, seconds: float) -> None:
        self.feeds = [feed for feed, _ in verifier.held_out[:4]] or list(verifier.probes.feeds[:1])
        self.float = open_session(graph, target=verifier.target)
        self.seconds = seconds

    def speeds(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Race all candidates briefly, then the best few again; the second race counts."""
        sessions = {c.placement: c.session for c in candidates}
        if len(candidates) == 1:
            return self._race(sessions, self.seconds / 5)
        speeds = self._race(sessions, self.seconds / 2)
        finalists = sorted(speeds, key=lambda p: -speeds[p])[:_FINALISTS]
        return speeds | self._race({p: sessions[p] for p in finalists}, self.seconds / 2)

    def _race(self, sessions: Mapping[str, Session], seconds: float) -> dict[str, float]:
        result = race({**sessions, FLOAT: self.float}, self.feeds, seconds=seconds, min_rounds=5)
        return {name: result.speedup(name, FLOAT) for name in sessions}


class _Forecast:
    """Asks the cost model, where the target is not this machine."""

    source = "estimated"

    def __init__(self, graph: Graph, context: PipelineContext) -> None:
        self.context = context
        self.float_ms = context.cost.estimate(graph, context.target).latency_ms.value

    def speeds(self, candidates: Sequence[Candidate]) -> dict[str, float]:
        """Return the estimated speed of each candidate against the optimised float graph."""
        context = self.context
        return {
            c.placement: self.float_ms / context.cost.estimate(c.graph, context.target).latency_ms.value
            for c in candidates
        }


def _best(
    speeds: Mapping[str, float], candidates: Sequence[Candidate], *, prefers_small: bool
) -> Candidate | None:
    """Return the fastest; the more accurate of equals; None where float is not slower.

    Where speed is only estimated, a placement that is as fast as float is taken all the same: the
    file is a quarter of the size.
    """
    top = max(speeds[c.placement] for c in candidates)
    if top < (1.0 if prefers_small else 1.0 + _WORTH):
        return None
    equals = [c for c in candidates if speeds[c.placement] >= top * (1 - _EQUAL)]
    return max(equals, key=lambda c: c.snr_db if c.snr_db is not None else 0.0)
