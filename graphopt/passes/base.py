"""The pass protocol: what a transformation is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from graphopt.analysis.coupling import CouplingRule
    from graphopt.calibration.base import Dataset, RangeStatistics
    from graphopt.cost.base import CostModel
    from graphopt.ir import Graph, Node
    from graphopt.passes.prune.importance.base import Importance
    from graphopt.targets.base import Target
    from graphopt.types import Effect


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Args:
        modified: whether the graph changed; the pipeline checks it against a structural hash.
        notes: one short fact each, for a person: "20 pairs fused".
        metrics: the same facts for a program.
        settled: options that repeat this result exactly, where those that were given leave room
            for another: steps in place of minutes. The report's recipe has them.
    """

    modified: bool
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    settled: Mapping[str, Any] = field(default_factory=dict)


def counted(number: int, noun: str, rest: str) -> str:
    """Return a note such as "1 pair fused" or "3 pairs fused"; the plural is formed with an s."""
    return f"{number} {noun}{'s' * (number != 1)} {rest}"


class Context(Protocol):
    """Everything that a pass may ask for beyond the graph itself."""

    @property
    def target(self) -> Target:
        """The hardware that the model is compiled for."""
        ...

    @property
    def cost(self) -> CostModel:
        """Estimates latency, memory, size and energy of a graph on the target."""
        ...

    @property
    def coupling_rules(self) -> Mapping[str, CouplingRule]:
        """How operators couple the axes of their tensors, by operator; plugins add to it."""
        ...

    @property
    def importances(self) -> Mapping[str, type[Importance]]:
        """The criteria that say what matters least, by name; plugins add to it."""
        ...

    @property
    def original(self) -> Graph:
        """The model as it was given, with the sizes that the recipe states; not to be changed."""
        ...

    @property
    def seed(self) -> int:
        """Seed of every random choice."""
        ...

    @property
    def log(self) -> logging.Logger:
        """Where a pass may say what is of interest to its own author."""
        ...

    @property
    def has_data(self) -> bool:
        """Whether the user gave calibration data."""
        ...

    @property
    def extra(self) -> Dataset | None:
        """More samples, for passes that train; nothing is fitted to or judged by them."""
        ...

    @property
    def identity(self) -> str:
        """Hash of the data, the seed and the versions that results rest on, to keep them under."""
        ...

    def ranges(self, graph: Graph, names: Sequence[str]) -> Mapping[str, RangeStatistics]:
        """Return the calibrated range of each named tensor; runs the data once, shared by all.

        Tensors that the data never reached, or that are not numeric, are absent.
        """
        ...

    @property
    def probes(self) -> Sequence[Mapping[str, np.ndarray[Any, Any]]]:
        """Inputs to try a graph on: real samples where there are data, else seeded values."""
        ...

    def stream(
        self,
        graph: Graph,
        names: Sequence[str],
        *,
        samples: Callable[[int], bool] | None = None,
        feeds: Iterable[Mapping[str, np.ndarray[Any, Any]]] | None = None,
    ) -> Iterator[tuple[int, str, np.ndarray[Any, Any]]]:
        """Yield (sample, name, values) of the named tensors over the calibration data.

        Samples come in order, and the tensors of one sample together; nothing is kept, so what is
        needed of them is accumulated by the caller. Without data nothing is yielded.

        Args:
            graph: is run as far as the tensors need it.
            names: of the tensors; inputs of the graph are among what can be asked for.
            samples: whether a sample, by number, is run; all by default.
            feeds: what is run instead of the calibration data: inputs of ``graph`` by name.
        """
        ...

    def run(
        self, graph: Graph, feeds: Mapping[str, np.ndarray[Any, Any]], outputs: Sequence[str]
    ) -> list[np.ndarray[Any, Any]]:
        """Execute ``graph`` on ``feeds`` and return the named tensors."""
        ...

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what ``make`` gives, computed once per compile and key; shared by candidates."""
        ...

    def explain(self, node: Node, reason: str) -> None:
        """Record why something did, or did not, happen to a node."""
        ...

    def progress(self, steps: Iterable[Any], total: int, label: str) -> Iterable[Any]:
        """Iterate over ``steps`` while a progress bar is shown on a terminal."""
        ...

    def tell(self, label: str, done: int, total: int) -> None:
        """Show on a progress bar how many steps are done; for steps whose label changes."""
        ...


@runtime_checkable
class Pass(Protocol):
    """One transformation of a graph.

    A pass is a frozen dataclass: its fields are its options, everywhere.
    """

    name: ClassVar[str]
    effect: ClassVar[Effect]

    def run(self, graph: Graph, context: Context) -> PassResult:
        """Transform ``graph`` in place; leave it legal."""
        ...
