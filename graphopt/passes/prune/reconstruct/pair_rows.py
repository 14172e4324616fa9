"""Which products are pairs around an activation, and the rows that both see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.layers import layer_of, limits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.ir import Node, Value
    from graphopt.passes.prune.reconstruct.layers import Layer
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct
    from graphopt.passes.prune.reconstruct.walk import Batch

    Array = np.ndarray[Any, Any]
    _Triple = tuple[MatrixProduct, MatrixProduct, Array]

_CROP = 64
"""Positions of one sample that are fitted to, about: a square of them, which share windows."""
_ACTIVATIONS = ("Relu", "Clip")
_PARTS = 4
"""Every fourth sample is left out, to see how well a fit does."""
ROOM = 128 << 20
"""Bytes of rows of the first product."""


@dataclass(frozen=True)
class Pair:
    """Two products of a pruned graph with an activation between that only the second reads.

    Args:
        first: makes the hidden values.
        second: reads them; what it and the skip give in all is the target.
        limits: between which values of the first product the activation tells values apart.
        layer: of the second product.
    """

    first: MatrixProduct
    second: MatrixProduct
    limits: tuple[float, float]
    layer: Layer


def pair_of(
    first: MatrixProduct, seconds: Mapping[Node, _Triple], behind: Callable[[Value | None], bool]
) -> Pair | None:
    """Return the pair that a product is the first of; None where it is not.

    Args:
        first: of the pruned graph.
        seconds: by node of the pruned graph, what is still to be fitted.
        behind: whether a tensor of the pruned graph is still to change.
    """
    made, limits = _activated(first.output)
    reader = _only_reader(made) if made is not None else None
    found = seconds.get(reader) if reader is not None else None
    if found is None or found[1].source is not made or not _fit_together(first, found[1]):
        return None
    return Pair(first, found[1], limits, layer_of(*found, behind))


def _only_reader(value: Value) -> Node | None:
    alone = len(value.uses) == 1 and not value.is_output
    return value.consumers[0] if alone else None


def _activated(made: Value) -> tuple[Value | None, tuple[float, float]]:
    """Return what an activation makes of a tensor, or that itself; None where others read it."""
    reader = _only_reader(made)
    if reader is None:
        return None, (-np.inf, np.inf)
    if reader.op in _ACTIVATIONS and not reader.domain:
        return reader.outputs[0], limits_of(made)
    return made, (-np.inf, np.inf)


def _fit_together(first: MatrixProduct, second: MatrixProduct) -> bool:
    """Whether both are understood, and every hidden unit is read through as many taps."""
    kinds = {first.node.op, second.node.op}
    alike = first.is_convolution == second.is_convolution and "ConvTranspose" not in kinds
    biased = first.bias_of is not None and second.bias_of is not None
    whole = second.groups == 1 and second.features == first.groups * first.outputs * second.taps
    return alike and biased and whole


@dataclass(frozen=True)
class PairRows:
    """Rows of a pair.

    Args:
        inputs: of the first product, float32 [groups, places, features].
        places: for each row of the second product and each of its taps, one more than the place
            that it sees; 0 is outside. int64 [rows, taps].
        totals: what has to come out in all, float32 [rows, outputs].
        skips: what is added to the second product; None for nothing.
        left_out: whether a row is of a sample left out; bool [rows].
        limits: between which values the reader of the total tells values apart.
    """

    inputs: Array
    places: Array
    totals: Array
    skips: Array | None
    left_out: Array
    limits: tuple[float, float]


class Crops:
    """Collects rows of a pair: of each sample a square of positions.

    Args:
        pair: is fitted.
        room: bytes of rows.
        most: samples, copies of images among them; 0 for all.
    """

    def __init__(self, pair: Pair, room: int = ROOM, most: int = 0) -> None:
        self.pair = pair
        self._most = most
        self._seen = 0
        self._room = room
        self._parts: list[PairRows] = []
        self._count = 0
        self._turns: dict[int, int] = {}

    @property
    def read(self) -> list[str]:
        """Names of the tensors of the pruned graph."""
        skip = self.pair.layer.skip
        return [self.pair.first.source.name, *([skip] if skip is not None else [])]

    def take(self, given: Batch, wanted: Batch, seed: int) -> None:
        """Take in a batch, while there is room."""
        if self._room < 0 or (self._most and self._seen >= self._most):
            return
        self._seen += len(given.samples)
        layer, first, second = self.pair.layer, self.pair.first, self.pair.second
        target = wanted.tensors[layer.total]
        source = given.tensors[first.source.name]
        space = _space_of(first, source)
        samples = len(given.samples)
        picked = _crops(samples, target, second, seed, given.samples)
        places = _places(second, samples, space, target.shape[2:], picked)
        used, places = np.unique(places, return_inverse=True)
        places = places.reshape(len(picked), -1)
        if used[0] == 0:
            used = used[1:]
        else:
            places = places + 1
        inputs = first.inputs(source, space, used - 1)
        totals = layer.before.outputs_at(target, picked)[:, layer.columns]
        skips = None
        if layer.skip is not None:
            skips = second.outputs_at(given.tensors[layer.skip], picked)
        known = self._turns
        turns = np.array([known.setdefault(n, len(known)) for n in given.samples])
        left = np.repeat(turns % _PARTS == _PARTS - 1, len(picked) // samples)
        shifted = np.where(places > 0, places + self._count, 0)
        self._count += len(used)
        self._room -= inputs.nbytes
        self._parts.append(PairRows(inputs, shifted, totals, skips, left, layer.limits))

    def rows(self) -> PairRows | None:
        """Return everything; it is forgotten here."""
        parts, self._parts = self._parts, []
        if not parts:
            return None
        skips = [p.skips for p in parts if p.skips is not None]
        return PairRows(
            np.concatenate([p.inputs for p in parts], axis=1),
            np.concatenate([p.places for p in parts]),
            np.concatenate([p.totals for p in parts]),
            np.concatenate(skips) if skips else None,
            np.concatenate([p.left_out for p in parts]),
            parts[0].limits,
        )


def _space_of(first: MatrixProduct, source: Array) -> tuple[int, ...]:
    """Return the spatial sizes of what the first product makes of a tensor."""
    return first.space(source.shape[2:]) if first.is_convolution else ()


def _places(
    second: MatrixProduct, samples: int, space: Sequence[int], made: Sequence[int], picked: Array
) -> Array:
    """Return one more than the place that each tap sees, int64 [rows, taps]; 0 is outside.

    Args:
        second: has the taps.
        samples: that were run together.
        space: spatial sizes of the hidden values.
        made: spatial sizes of the output.
        picked: its rows.
    """
    if not second.is_convolution:
        return np.asarray(picked[:, None] + 1)
    # Numbers in the place of values; what pads them is 0.
    numbers = np.arange(1, samples * int(np.prod(space)) + 1).reshape(samples, 1, *space)
    return np.asarray(second.seen_by(numbers, made, picked))


def _crops(
    samples: int, target: Array, second: MatrixProduct, seed: int, numbers: Sequence[int]
) -> Array:
    """Return which rows are taken of each sample: a square of positions, by a seeded choice."""
    space = target.shape[2:] if second.is_convolution else (second.count(target) // samples,)
    edge = max(1, round(_CROP ** (1 / max(len(space), 1))))
    sizes = [min(edge, size) for size in space]
    each = int(np.prod(space))
    found = []
    for index, number in enumerate(numbers):
        random = np.random.default_rng((seed, number, each))
        starts = [int(random.integers(0, n - m + 1)) for n, m in zip(space, sizes, strict=True)]
        axes = np.meshgrid(
            *[np.arange(s, s + m) for s, m in zip(starts, sizes, strict=True)], indexing="ij"
        )
        found.append(index * each + np.ravel_multi_index([a.reshape(-1) for a in axes], space))
    return np.concatenate(found)
