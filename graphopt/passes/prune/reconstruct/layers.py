"""What each layer is fitted to: which tensors make its target, and the rows of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.moments import LARGEST_BYTES, MomentSums, pick, sums_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir import Node, Value
    from graphopt.passes.prune.reconstruct.moments import Moments
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct
    from graphopt.passes.prune.reconstruct.walk import Batch

    Array = np.ndarray[Any, Any]

ROWS_BYTES = 256 << 20
"""Rows that are kept at once for fits that have to see them more than once."""
_PARTS = 4
"""Every fourth sample is left out of a first fit, to see how well it does."""


@dataclass(frozen=True)
class Layer:
    """One product to fit: in both graphs, and which tensors the target is made of.

    Args:
        before: of the original.
        after: of the pruned graph.
        columns: outputs of the original that are left.
        total: name of the tensor to match, the same in both graphs.
        skip: name of what the pruned graph adds to it; None where nothing is.
        limits: between which values the only reader of the total tells values apart.
    """

    before: MatrixProduct
    after: MatrixProduct
    columns: Array
    total: str
    skip: str | None = None
    limits: tuple[float, float] = (-np.inf, np.inf)

    @property
    def is_limited(self) -> bool:
        """Whether some errors do not matter."""
        return bool(np.isfinite(self.limits).any())


def layer_of(
    before: MatrixProduct,
    after: MatrixProduct,
    columns: Array,
    behind: Callable[[Value | None], bool] | None,
) -> Layer:
    """Return what a product is fitted to.

    Args:
        before: of the original.
        after: of the pruned graph.
        columns: outputs of the original that are left.
        behind: whether a tensor of the pruned graph is still to change; None to fit no sums.
    """
    total, skip = after.output, None
    if behind is not None:
        total, skip = _sum_of(after, behind)
    name = skip.name if skip is not None else None
    return Layer(before, after, columns, total.name, name, limits_of(total))


def _sum_of(
    product: MatrixProduct, behind: Callable[[Value | None], bool]
) -> tuple[Value, Value | None]:
    """Return the sum with a skip connection that a product is only read for, and the skip."""
    output = product.output
    if len(output.uses) != 1 or output.is_output:
        return output, None
    adding, index = output.uses[0]
    if adding.op != "Add" or adding.domain or adding.graph is not product.node.graph:
        return output, None
    skip, total = adding.inputs[1 - index], adding.outputs[0]
    # What the skip will be is not known while a layer that it depends on is still to be fitted.
    if skip is None or skip is output or skip.is_constant or behind(skip):
        return output, None
    if skip.shape != output.shape or total.shape != output.shape:
        return output, None
    return total, skip


def limits_of(total: Value) -> tuple[float, float]:
    """Return between which values the only reader of a tensor tells values apart."""
    if total.is_output or len(total.consumers) != 1:
        return -np.inf, np.inf
    reader = total.consumers[0]
    if reader.op == "Relu" and not reader.domain:
        return 0.0, np.inf
    if reader.op == "Clip" and not reader.domain:
        return _bound(reader, 1, "min", -np.inf), _bound(reader, 2, "max", np.inf)
    return -np.inf, np.inf


def _bound(clip: Node, index: int, name: str, default: float) -> float:
    given = clip.attribute(name)
    value = clip.inputs[index] if index < len(clip.inputs) else None
    if value is None:
        return float(default if given is None else given)
    # A bound that is computed may be anything: nothing is known to be clipped.
    return float(value.array().reshape(-1)[0]) if value.is_constant else default


@dataclass(frozen=True)
class Rows:
    """Rows of one layer.

    Args:
        inputs: float32 [groups, rows, features].
        totals: what the total has to be, float32 [groups, rows, outputs].
        skips: what is added to the product, float32 [groups, rows, outputs]; None for nothing.
        left_out: whether each row is of a sample that is left out of a first fit; bool [rows].
    """

    inputs: Array
    totals: Array
    skips: Array | None
    left_out: Array

    def some(self, which: Array) -> Rows:
        """Return some of the rows; ``which`` is bool [rows]."""
        skips = None if self.skips is None else self.skips[:, which]
        return Rows(self.inputs[:, which], self.totals[:, which], skips, self.left_out[which])


class Gathering:
    """Sums over the rows of one layer, and the rows themselves where there is room for them.

    Args:
        layer: is fitted.
        room: bytes of rows that are kept; once there are more, none are.
    """

    def __init__(self, layer: Layer, room: int) -> None:
        product = layer.after
        self.layer = layer
        sizes = product.groups, product.features, product.outputs
        self._parts = MomentSums(*sizes), MomentSums(*sizes)
        # One set of sums is all that there is room for: nothing is left out then.
        self._splits = 2 * sums_bytes(product, product.outputs) <= LARGEST_BYTES
        self._rows: list[Rows] = []
        self._room = room
        self._turns: dict[int, int] = {}

    def take(self, given: Batch, wanted: Batch, seed: int) -> None:
        """Take in a batch: tensors of the pruned graph, and of the original."""
        layer, product = self.layer, self.layer.after
        target = wanted.tensors[layer.total]
        picked = pick(layer.before.count(target), product, seed, given.samples)
        source = given.tensors[product.source.name]
        inputs = product.inputs(source, target.shape[2:], picked)
        totals = self._split(layer.before.outputs_at(target, picked)[:, layer.columns])
        skips = None
        if layer.skip is not None:
            skips = self._split(product.outputs_at(given.tensors[layer.skip], picked))
        aims = totals if skips is None else totals - skips
        # Copies of a sample have its number, and are left out with it.
        known = self._turns
        turns = np.array([known.setdefault(number, len(known)) for number in given.samples])
        each = (turns % _PARTS == _PARTS - 1) & self._splits
        left_out = np.repeat(each, len(picked) // len(turns))
        for sums, which, of in zip(self._parts, (~left_out, left_out), (~each, each), strict=True):
            sums.update(inputs[:, which], aims[:, which], int(of.sum()))
        self._room -= inputs.nbytes + 2 * totals.nbytes
        if self._room < 0:
            self._rows.clear()
        else:
            self._rows.append(Rows(inputs, totals, skips, left_out))

    def _split(self, values: Array) -> Array:
        product = self.layer.after
        split = values.reshape(len(values), product.groups, product.outputs)
        return np.ascontiguousarray(split.transpose(1, 0, 2))

    def moments(self) -> list[Moments]:
        """Return the moments of most samples, and of the rest, as far as there are any.

        None are given where some were not finite.
        """
        if any(sums.is_broken for sums in self._parts):
            return []
        return [found for sums in self._parts if (found := sums.result()) is not None]

    def rows(self) -> Rows | None:
        """Return the rows, if they all found room; they are forgotten here."""
        if not self._rows or self._room < 0:
            return None
        parts, self._rows = self._rows, []
        skips = [part.skips for part in parts if part.skips is not None]
        return Rows(
            np.concatenate([part.inputs for part in parts], axis=1),
            np.concatenate([part.totals for part in parts], axis=1),
            np.concatenate(skips, axis=1) if skips else None,
            np.concatenate([part.left_out for part in parts]),
        )
