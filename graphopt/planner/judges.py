"""Which of several candidates is fastest: by the clock, or by the target's cost model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.planner.cuts import Costs, border_costs, measured_costs
from graphopt.planner.plan import FLOAT
from graphopt.runtime import HEAVY, open_session, profile_kernels, race

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.pipeline import PipelineContext, Verifier
    from graphopt.planner.workshop import Candidate
    from graphopt.runtime import Session

    Feed = Mapping[str, np.ndarray[Any, Any]]

_FINALISTS = 3


class Stopwatch:
    """Times candidates on this machine, against the optimised float graph."""

    source = "measured"
    is_timed = True

    def __init__(self, graph: Graph, verifier: Verifier, seconds: float) -> None:
        self.feeds = [feed for feed, _ in verifier.held_out[:4]] or list(verifier.probes.feeds[:1])
        self.float = verifier.open(graph)[0]
        self.target = verifier.target
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

    def kernel_costs(self, graph: Graph, integer: Candidate) -> list[Costs]:
        """Profile the graph in float and in integer; return the times raw and corrected."""
        feed, target = self.feeds[0], self.target
        floats = profile_kernels(graph, target, feed)
        integers = profile_kernels(integer.graph, target, feed)
        own = open_session(graph, target=target)
        result = race({"float": own, "integer": integer.session}, [feed], seconds=0.05)
        whole = {name: timing.min_ms * 1e3 for name, timing in result.timings.items()}
        return measured_costs(graph, floats, integers, whole["float"], whole["integer"])


class Forecast:
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

    def kernel_costs(self, graph: Graph, integer: Candidate) -> list[Costs]:
        """Return the estimated times; what covers several operators belongs to the heavy one."""
        found = []
        for made in (graph, integer.graph):
            heavy = {n.label for n in made.nodes(*HEAVY)}
            times: dict[str, float] = {}
            for kernel in self.context.cost.estimate(made, self.context.target).kernels:
                for name in kernel.nodes:
                    if name in heavy:
                        times[name] = times.get(name, 0.0) + kernel.latency_us
            found.append(times)
        floats, integers = found
        names = [n.label for n in graph.nodes(*HEAVY)]
        return [
            Costs(
                {n: floats.get(n, 0.0) for n in names},
                {n: integers.get(n, floats.get(n, 0.0)) for n in names},
                border_costs(graph),
            )
        ]


Judge = Stopwatch | Forecast
