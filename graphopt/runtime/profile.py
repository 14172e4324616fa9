"""Where the time of a model goes, kernel by kernel, as onnxruntime's own profiler tells it."""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.runtime.arithmetic import HEAVY
from graphopt.runtime.session import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.ir import Graph, Node, Value
    from graphopt.targets.base import Target

    Feed = Mapping[str, np.ndarray[Any, Any]]

_TAG = re.compile(r"graphopt_node_(\d+)_")
_EVENT = "_kernel_time"


@dataclass(frozen=True)
class KernelTimes:
    """Median microseconds of every kernel of one model, and which operators they belong to.

    Args:
        by_node: time of the kernels that belong to each heavy operator, by its name: its own, and
            those of what follows it up to the next one. Kernels before all of them are left out.
        total: sum over all kernels.
        kernels: how many kernels an inference runs.
        counts: how many of them belong to each heavy operator.
    """

    by_node: dict[str, float]
    total: float
    kernels: int
    counts: dict[str, int]


def profile_kernels(
    graph: Graph, target: Target | None, feed: Feed, *, runs: int = 15
) -> KernelTimes:
    """Run ``graph`` under the profiler.

    The profiler itself adds a few microseconds to each kernel.

    Raises:
        ModelError: as ``open_session`` and ``Session.run``.
    """
    named = graph.copy()
    original = graph.nodes()
    for index, node in enumerate(named.nodes()):
        node.name = f"graphopt_node_{index}_"
    with tempfile.TemporaryDirectory(prefix="graphopt-") as folder:
        session = open_session(named, target=target, profile=Path(folder) / "profile")
        for _ in range(runs):
            session.run(feed)
        events = json.loads(Path(session.native.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_EVENT):
            times[event["name"].removesuffix(_EVENT)].append(float(event["dur"]))
    owners = _Owners(graph, original)
    by_node: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    medians = {name: statistics.median(durations) for name, durations in times.items()}
    for name, median in medians.items():
        owner = owners.of(name)
        if owner is not None:
            by_node[owner] += median
            counts[owner] += 1
    return KernelTimes(dict(by_node), sum(medians.values()), len(medians), dict(counts))


class _Owners:
    """Finds the heavy operator that a kernel belongs to."""

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._values = {v.name: v for v in graph.values()}
        self._known: dict[Node, str | None] = {}
        for node in nodes:
            self._known[node] = self._settle(node)

    def of(self, kernel: str) -> str | None:
        """Return the name of the operator, given the name that the runtime gave its kernel."""
        tagged = _TAG.match(kernel)
        if tagged:
            return self._known.get(self._nodes[int(tagged.group(1))])
        # Kernels in a blocked layout are called after the tensor that they make.
        value = self._values.get(kernel.removesuffix("_nchwc"))
        return self._known.get(value.producer) if value is not None and value.producer else None

    def _settle(self, node: Node) -> str | None:
        """Return the node itself, or what the nearest of its inputs belongs to."""
        if node.op in HEAVY and node.domain == "":
            return node.label
        for value in node.inputs:
            found = self._of_value(value)
            if found is not None:
                return found
        return None

    def _of_value(self, value: Value | None) -> str | None:
        producer = value.producer if value is not None else None
        return self._known.get(producer) if producer is not None else None
