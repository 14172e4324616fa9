"""What passes are given: statistics, execution, cost, and a place to say why."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from graphopt import ir
from graphopt.report import Explanation
from graphopt.runtime import IntermediateTensors, open_session, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.analysis.coupling import CouplingRule
    from graphopt.calibration.base import Dataset, Observer, RangeStatistics
    from graphopt.calibration.collect import Collected
    from graphopt.cost.base import CostModel
    from graphopt.ir import Graph, Node
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.report import Observe
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]


@dataclass
class PipelineContext:
    """The context of one compile; shared by all its passes.

    Args:
        target: what is compiled for.
        cost: the cost model.
        dataset: calibration samples; None without data.
        find_observer: gives what chooses ranges; called when ranges are.
        seed: of every random choice.
        version: of graphopt; cached statistics of another version are not used.
        observe: is told about progress.
        find_rules: gives the coupling rules; called when a pass asks, as plugins are loaded then.
        find_importances: gives the importance criteria; called likewise.
        source: the model as it was given; None where a pass is run on its own.
        fitted: the samples that passes which remove units or train are given in place of
            ``dataset``: more of the same data; None for no others.
        extra: more samples for passes that train; nothing is measured, fitted or judged on them.
    """

    target: Target
    cost: CostModel
    dataset: Dataset | None
    find_observer: Callable[[], Observer]
    seed: int = 0
    version: str = ""
    observe: Observe | None = None
    find_rules: Callable[[], Mapping[str, CouplingRule]] = dict
    find_importances: Callable[[], Mapping[str, type[Importance]]] = dict
    source: Graph | None = None
    fitted: Dataset | None = None
    extra: Dataset | None = None
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("graphopt"))
    explanations: dict[tuple[str, str], Explanation] = field(default_factory=dict)
    running: str = ""
    """Name of the pass that is running; explanations are recorded under it."""
    probes: Sequence[Mapping[str, Array]] = ()
    """Inputs to try a graph on."""
    _collected: dict[str, Collected] = field(default_factory=dict)
    _remembered: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def original(self) -> Graph:
        """The model as it was given; raises ValueError where there is only the graph itself."""
        if self.source is None:
            raise ValueError("this context knows no original: a compile, or `original=`, gives one")
        return self.source

    @property
    def fitting(self) -> PipelineContext:
        """The context of passes that fit or train what is left, on the samples for that."""
        if self.fitted is None:
            return self
        return replace(self, dataset=self.fitted, fitted=None, _collected={})

    @property
    def has_data(self) -> bool:
        """Whether the user gave calibration data."""
        return self.dataset is not None

    @property
    def identity(self) -> str:
        """Hash of the data, the seed and the versions that results rest on, to keep them under."""
        digests = [None if data is None else data.digest for data in (self.dataset, self.extra)]
        told = [digests, self.seed, self.version, sorted(versions().items())]
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()

    @property
    def observer(self) -> Observer:
        """What chooses ranges."""
        chosen: Observer = self.remember("observer", self.find_observer)
        return chosen

    @property
    def coupling_rules(self) -> Mapping[str, CouplingRule]:
        """How operators couple the axes of their tensors, by operator."""
        rules: Mapping[str, CouplingRule] = self.remember("coupling rules", self.find_rules)
        return rules

    @property
    def importances(self) -> Mapping[str, type[Importance]]:
        """The criteria that say what matters least, by name."""
        found: Mapping[str, type[Importance]] = self.remember("importances", self.find_importances)
        return found

    def ranges(self, graph: Graph, names: Sequence[str]) -> Mapping[str, RangeStatistics]:
        """Return the range of each named tensor; runs the data once per graph, cached on disk."""
        if self.dataset is None:
            return {}
        model_hash = ir.structural_hash(graph)
        found = self._collected.get(model_hash)
        known = {*found.ranges, *found.skipped} if found is not None else set()
        if found is None or not known.issuperset(names):
            found = self._collect(graph, model_hash, names)
            self._collected[model_hash] = found
        return found.ranges

    def carry_ranges(self, before: str, after: str) -> None:
        """Let the ranges of one graph, by hash, serve another that an exact pass made of it.

        A tensor that keeps its name through an exact pass keeps its values.
        """
        if before in self._collected:
            self._collected.setdefault(after, self._collected[before])

    def _collect(self, graph: Graph, model_hash: str, names: Sequence[str]) -> Collected:
        from graphopt.calibration.cache import StatisticsCache
        from graphopt.calibration.cache_folder import cache_folder
        from graphopt.calibration.collect import collect

        dataset = self.dataset
        assert dataset is not None

        def progress(done: int, total: int) -> None:
            self.tell("calibrating", done, total)

        def run(missing: Sequence[str]) -> Collected:
            source = IntermediateTensors(graph, missing)
            return collect(source, dataset, self.observer, missing, progress=progress)

        cache = StatisticsCache(cache_folder(), self.version)
        return cache.collect(model_hash, dataset, self.observer, names, run)

    def stream(
        self,
        graph: Graph,
        names: Sequence[str],
        *,
        samples: Callable[[int], bool] | None = None,
        feeds: Iterable[Mapping[str, Array]] | None = None,
    ) -> Iterator[tuple[int, str, Array]]:
        """Yield (sample, name, values) over the calibration data; holds one chunk at a time."""
        if self.dataset is None and feeds is None:
            return
        source = IntermediateTensors(graph, names)
        total = len(self.dataset or ())
        for sample, feed in enumerate(self.dataset or () if feeds is None else feeds):
            if samples is None or samples(sample):
                for name, values in source.tensors(feed):
                    yield sample, name, values
            if feeds is None:
                self.tell("measuring", sample + 1, total)

    def run(self, graph: Graph, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute ``graph`` as written, without the runtime's own rewriting."""
        return open_session(graph, optimize=False).run(feeds, outputs)

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gave the first time it was asked for under ``key``."""
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]

    def explain(self, node: Node, reason: str) -> None:
        """Record why something did, or did not, happen to a node; the last word counts."""
        name = node.label
        self.explanations[self.running, name] = Explanation(name, self.running, reason)

    @contextmanager
    def without_explanations(self) -> Iterator[None]:
        """Forget what is explained inside the block: for trials."""
        kept = dict(self.explanations)
        try:
            yield
        finally:
            self.explanations = kept

    def progress(self, steps: Iterable[Any], total: int, label: str) -> Iterator[Any]:
        """Yield ``steps``, telling the observer how far it is."""
        for done, step in enumerate(steps, start=1):
            yield step
            self.tell(label, done, total)

    def tell(self, label: str, done: int, total: int) -> None:
        """Tell the observer how far something is."""
        if self.observe is not None:
            self.observe.progress(label, done, total)
