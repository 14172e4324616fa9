"""Samples read from the calibration data, or made where there are none, as many as memory takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.errors import DataError
from graphopt_torch.samples.storage import Storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_MADE = 512
"""Samples that are made where there are no data; fewer where they would take 256 MiB."""


@dataclass
class Collection:
    """Samples in memory, spread evenly over those that there were.

    Once they take more than ``most_bytes``, every other one is forgotten, and of what comes only
    every other one is taken; so the samples that are kept are the same however they arrive.

    Args:
        most_bytes: that the samples may take; a single one may take more.
        stores: by input.
        stride: every so many-th sample is kept.
        seen: samples that there were, up to the last that was kept.
        synthetic: whether nobody took these samples.
    """

    most_bytes: int
    stores: dict[str, Storage] = field(default_factory=dict)
    stride: int = 1
    seen: int = 0
    synthetic: bool = False

    def __len__(self) -> int:
        return min(map(len, self.stores.values()), default=0)

    def wants(self, number: int) -> bool:
        """Whether a sample, by number, is to be kept as things are."""
        return number % self.stride == 0

    def add(self, number: int, feed: Feed) -> None:
        """Keep a sample that is wanted."""
        for name, values in feed.items():
            self.stores.setdefault(name, Storage()).append(values)
        self.seen = number + 1
        while len(self) > 1 and self.nbytes > self.most_bytes:
            self.stride *= 2
            for store in self.stores.values():
                store.keep(range(0, len(store), 2))

    def fill(self, feeds: Iterable[tuple[int, Feed]]) -> None:
        """Keep what is wanted of samples, by number."""
        for number, feed in feeds:
            # What was read ahead of the decision to keep fewer is dropped here.
            if self.wants(number):
                self.add(number, feed)

    @property
    def nbytes(self) -> int:
        """What the samples take."""
        return sum(store.nbytes for store in self.stores.values())

    def feed(self, position: int) -> dict[str, Array]:
        """Return a sample."""
        return {name: store.stacked([position])[0] for name, store in self.stores.items()}


def collect(graph: Graph, context: Context, most_bytes: int) -> Collection:
    """Return the samples to train ``graph`` with.

    Without calibration data they are made from what the BatchNormalization nodes of the original
    remember (see ``graphopt.calibration.synthetic``).

    Raises:
        DataError: G213, there are no data, and nothing tells what they were like.
    """
    found = Collection(most_bytes)
    names = [value.name for value in graph.feeds]
    found.fill(_feeds(context.stream(graph, names, samples=found.wants)))
    return found if len(found) else _made(graph, context, found)


def others(context: Context, most_bytes: int) -> Collection:
    """Return the samples that are only trained on: none where the recipe names none."""
    found = Collection(most_bytes)
    found.fill(enumerate(context.extra or ()))
    return found


def _feeds(tensors: Iterable[tuple[int, str, Array]]) -> Iterator[tuple[int, dict[str, Array]]]:
    """Yield (sample, its inputs by name)."""
    last, feed = -1, dict[str, "Array"]()
    for sample, name, values in tensors:
        if sample != last and feed:
            yield last, feed
            feed = {}
        last = sample
        feed[name] = values
    if feed:
        yield last, feed


def _original(graph: Graph, context: Context) -> Graph:
    """Return the model as it was given, whose normalizations are not folded yet."""
    try:
        return context.original
    except ValueError:  # a pass on its own, outside a compile
        return graph


def _made(graph: Graph, context: Context, found: Collection) -> Collection:
    from graphopt.calibration.synthetic import synthetic_dataset
    from graphopt.ir import infer_shapes

    original = _original(graph, context).copy()
    infer_shapes(original)
    made = synthetic_dataset(original, context.seed, _MADE)
    if made is None:
        raise DataError(
            "training needs samples, and there are none to learn from",
            code="G213",
            hint="give unlabelled samples with --data; only a model with BatchNormalization nodes "
            "and one input of floats tells what its samples were like",
        )
    found.synthetic = True
    found.fill(enumerate(made))
    return found
