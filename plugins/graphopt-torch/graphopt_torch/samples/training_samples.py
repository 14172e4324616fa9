"""Unlabelled samples in endless batches, some kept aside to judge on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import GraphOptError
from graphopt.passes.prune.samples import is_scored
from graphopt_torch.samples.alteration import altered
from graphopt_torch.samples.batch_memory import USUAL, affordable
from graphopt_torch.samples.collection import collect, others
from graphopt_torch.samples.pictures import are_pictures
from graphopt_torch.samples.schedule import Schedule, alteration, held_out_samples
from graphopt_torch.samples.storage import channel_axis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt_torch.execution import Program
    from graphopt_torch.samples.augmentation import Augmentation
    from graphopt_torch.samples.collection import Collection

    Array = np.ndarray[Any, Any]

_LOOKED_AT = 64
"""Samples that deviations and the likeness to pictures are taken from."""
_SMALL, _STEPS = 8, 8
"""Samples of the smallest batch that is chosen, and how many batches an epoch has at least."""
_APART = 0.02
"""Share by which outputs of two samples together may differ from those of each alone: rounding,
which quantizers magnify."""


@dataclass
class TrainingSamples:
    """Samples of a model, in memory.

    Samples of different shapes are never in one batch. Where samples cannot be run together
    (``stacked``), a batch has one more axis in front, over its samples; ``feeds`` takes it apart.

    Args:
        graph: that is trained.
        collection: those of the data.
        held_out: positions of those that are judged on, ascending.
        stacked: whether samples are to be run one by one.
        extra: samples that are only trained on. They are numbered on from those of the data, which
            come as often as all of them together: they are not what the model is for.
    """

    graph: Graph
    collection: Collection
    held_out: tuple[int, ...]
    stacked: bool
    extra: Collection | None = None
    _deviations: dict[str, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, graph: Graph, context: Context, *, held_out: float = 0.15, most_bytes: int = 1 << 30
    ) -> TrainingSamples:
        """Read the calibration data, or make samples where there are none.

        Args:
            graph: that is trained.
            context: of the pass.
            held_out: share of the samples that is kept to judge on, above 0 and below 1.
            most_bytes: that the samples may take; of more, every second, fourth, ... is read.

        Raises:
            DataError: G211 to G214, the data cannot be read; G213, there are none and nothing tells
                what they were like.
        """
        found = collect(graph, context, most_bytes)
        kept = _set_aside(found, held_out)
        more = others(context, max(1, most_bytes - found.nbytes))
        return cls(graph, found, kept, not _join(graph, context, found), more)

    def __len__(self) -> int:
        """Return how many samples are trained on, those that come more than once as often."""
        return sum(len(group) for group in self.groups)

    @property
    def synthetic(self) -> bool:
        """Whether the samples were made, as there were no data."""
        return self.collection.synthetic

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the samples that are trained on, those of one shape together."""
        aside = set(self.held_out) if len(self.collection) > 1 else set()
        own = [n for n in range(len(self.collection)) if n not in aside]
        count = len(self.extra) if self.extra is not None else 0
        added = range(len(self.collection), len(self.collection) + count)
        return self._by_shape([*own * max(1, round(count / len(own))), *added])

    @cached_property
    def shapes(self) -> tuple[dict[str, tuple[int, ...]], ...]:
        """Shapes of a sample of each group, by input."""
        return tuple(self._shape(group[0]) for group in self.groups)

    @cached_property
    def are_pictures(self) -> bool:
        """Whether the samples are colour pictures, beyond doubt."""
        return are_pictures([self.collection.feed(n) for n in self._some()])

    def batch_size(self, program: Program) -> int:
        """Return how many samples a step should take; 1 where they are run one by one.

        As many as three tenths of the free memory hold for the largest shape, at most 64, and of a
        few samples an eighth, but 8: many small steps teach more in a minute than few large ones.
        """
        if self.stacked:
            return 1
        largest = max(self.shapes, key=_volume)
        most = max(map(len, self.groups))
        wanted = min(USUAL, max(_SMALL, len(self) // _STEPS), most)
        return min(wanted, affordable(self.graph, program, largest))

    def batches(
        self,
        size: int | None = None,
        seed: int = 0,
        step: int = 0,
        augment: Augmentation | None = None,
    ) -> Iterator[dict[str, Tensor]]:
        """Yield batches without end; what comes at a step depends on seed and step alone.

        Args:
            size: most samples in a batch; 64, or 1 where samples are run one by one, by default.
            seed: of the order and of all alterations.
            step: of the first batch; 0 or more.
            augment: how samples are altered.
        """
        schedule = Schedule(self.groups, size or (1 if self.stacked else USUAL), seed)
        while True:
            number, position = divmod(step, schedule.steps)
            for chosen in schedule.epoch(number)[position:]:
                made = self._stack(chosen.tolist())
                if augment is not None and not augment.is_none:
                    deviations = {name: self._deviation(name) for name in made}
                    made = altered(made, augment, deviations, alteration(seed, step))
                yield self._tensors(made)
                step += 1

    def held_out_batches(self, size: int | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield every sample that is kept to judge on once, as it is."""
        size = size or (1 if self.stacked else USUAL)
        for group in self._by_shape(self.held_out):
            for start in range(0, len(group), size):
                yield self._tensors(self._stack(group[start : start + size]))

    def feeds(self, batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        """Yield what is run at once: the batch, or its samples where they are run one by one."""
        if not self.stacked:
            yield dict(batch)
            return
        for number in range(len(next(iter(batch.values())))):
            yield {name: values[number] for name, values in batch.items()}

    def _shape(self, position: int) -> dict[str, tuple[int, ...]]:
        found, place = self._at(position)
        return {name: found.stores[name].shape(place) for name in self.collection.stores}

    def _at(self, position: int) -> tuple[Collection, int]:
        own = len(self.collection)
        if position < own or self.extra is None:
            return self.collection, position
        return self.extra, position - own

    def _by_shape(self, positions: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        groups: dict[object, list[int]] = defaultdict(list)
        for position in positions:
            groups[tuple(self._shape(position).values())].append(position)
        return tuple(map(tuple, groups.values()))

    def _some(self) -> range:
        return range(0, len(self.collection), -(-len(self.collection) // _LOOKED_AT))

    def _stack(self, positions: Sequence[int]) -> dict[str, Array]:
        if max(positions) < len(self.collection):
            return {n: store.stacked(positions) for n, store in self.collection.stores.items()}
        places = [self._at(position) for position in positions]
        return {
            name: np.concatenate([found.stores[name].stacked([n]) for found, n in places])
            for name in self.collection.stores
        }

    def _deviation(self, name: str) -> Array:
        """Return the deviation of each channel of an input, as it broadcasts over a sample."""
        if name not in self._deviations:
            feeds = [self.collection.feed(n)[name].astype(np.float64) for n in self._some()]
            axis = channel_axis(feeds[0].shape)
            over = tuple(a for a in range(feeds[0].ndim) if a != axis)
            count = sum(f.size for f in feeds) / (1 if axis is None else feeds[0].shape[axis])
            mean = sum(f.sum(axis=over, keepdims=True) for f in feeds) / count
            power = sum(np.square(f - mean).sum(axis=over, keepdims=True) for f in feeds)
            self._deviations[name] = np.sqrt(power / count).astype(np.float32)
        return self._deviations[name]

    def _tensors(self, batch: Mapping[str, Array]) -> dict[str, Tensor]:
        if self.stacked:
            return {name: _tensor(values) for name, values in batch.items()}
        # [samples, rows, ...]: the rows of all samples follow each other.
        return {n: _tensor(v.reshape(-1, *v.shape[2:])) for n, v in batch.items()}


def _tensor(values: Array) -> Tensor:
    import torch

    values = np.ascontiguousarray(values)
    if values.dtype.name == "bfloat16":  # which torch has and numpy does not
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _set_aside(samples: Collection, share: float) -> tuple[int, ...]:
    """Return the positions to judge on, of samples that pruning fits nothing to where it can.

    What was fitted to a sample looks better on it than it is, and no training comes up to that.
    """
    scored = [n for n in range(len(samples)) if is_scored(n * samples.stride)]
    if not scored:
        return held_out_samples(len(samples), share)
    chosen = held_out_samples(len(scored), min(1.0, share * len(samples) / len(scored)))
    return tuple(scored[place] for place in chosen)


def _volume(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _join(graph: Graph, context: Context, samples: Collection) -> bool:
    """Whether two samples give the same together, along axis 0, as each alone.

    That an axis is open does not make it a batch: it may be time.
    """
    if any(not value.shape or isinstance(value.shape[0], int) for value in graph.feeds):
        return False
    one = samples.feed(0)
    fitting = [n for n in range(1, len(samples)) if _alike(one, samples, n)]
    other = samples.feed(fitting[0]) if fitting else one
    both = {name: np.concatenate([one[name], other[name]]) for name in one}
    names = [value.name for value in graph.outputs]
    try:
        first, second, together = (context.run(graph, feed, names) for feed in (one, other, both))
    except GraphOptError:
        return False
    return all(
        _agree(np.concatenate([a, b]) if a.ndim else a, c)
        for a, b, c in zip(first, second, together, strict=True)
    )


def _alike(one: Mapping[str, Array], samples: Collection, position: int) -> bool:
    return all(values.shape == samples.stores[n].shape(position) for n, values in one.items())


def _agree(expected: Array, found: Array) -> bool:
    if not expected.ndim or expected.shape != found.shape:
        return False
    if expected.dtype.kind not in "fiu":
        return bool(np.array_equal(expected, found))
    one, other = expected.astype(np.float64), found.astype(np.float64)
    return bool(np.linalg.norm(one - other) <= _APART * np.linalg.norm(one))
