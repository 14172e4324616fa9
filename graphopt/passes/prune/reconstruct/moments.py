"""Means and products of the rows that matrix products read, streamed over calibration data.

Rows are multiplied together in float32, about the mean of the first of them, so that nothing is
lost to a large mean, and added up in float64. Memory does not grow with the number of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.reconstruct.rows import MatrixProduct, product_of
from graphopt.passes.prune.reconstruct.walk import walks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from graphopt.ir import Graph, Node
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

ROWS_PER_SAMPLE = 64
"""Rows that a sample gives at least, as far as it has them."""
SAMPLE_WORTH = 10
"""Independent rows that one sample counts as at most: what neighbours say is much the same."""
ROWS_PER_FEATURE = 10
"""Rows for each feature that a fit wants."""
_EXPECTED_SAMPLES = 256
_BATCH_ROWS = 2048
LARGEST_BYTES = 768 << 20
"""Second moments of one streaming run that are held at once."""
LARGEST_FEATURES = 5120


@dataclass(frozen=True)
class Moments:
    """Of rows x = (inputs, outputs) of a product, for each group of it.

    Args:
        mean: E[x], float64 [groups, features].
        centred: E[(x - mean)^T (x - mean)], float64 [groups, features, features].
        mean_out: E[y], float64 [groups, outputs].
        cross: E[(x - mean)^T (y - mean_out)], float64 [groups, features, outputs].
        variance_out: of y, float64 [groups, outputs].
        rows: how many rows these are means of.
        samples: how many samples the rows are from.
    """

    mean: Array
    centred: Array
    mean_out: Array
    cross: Array
    variance_out: Array
    rows: int
    samples: int

    @property
    def second(self) -> Array:
        """E[x^T x]; float64 [groups, features, features]."""
        return np.asarray(self.centred + self.mean[:, :, None] * self.mean[:, None, :])

    @property
    def worth(self) -> int:
        """Rows that are as good as independent: ten of a sample at most."""
        return min(self.rows, SAMPLE_WORTH * self.samples)


class MomentSums:
    """Sums over rows of inputs and outputs.

    Args:
        groups: separate products.
        features: length of a row of inputs.
        outputs: length of a row of outputs; 0 where they are not needed.
    """

    def __init__(self, groups: int, features: int, outputs: int) -> None:
        self._features = features
        # Zeros take no memory until they are written to.
        self._sum = np.zeros((groups, features + outputs))
        self._square = np.zeros((groups, features, features + outputs))
        self._power_out = np.zeros((groups, outputs))
        self._shift: Array | None = None
        self._waiting: list[Array] = []
        self._rows = 0
        self._samples = 0
        self.is_broken = False

    def update(self, inputs: Array, outputs: Array | None, samples: int = 1) -> None:
        """Take in rows of some samples, float32 [groups, rows, features] and [.., outputs]."""
        rows = inputs if outputs is None else np.concatenate([inputs, outputs], axis=2)
        if not np.isfinite(rows).all():
            self.is_broken = True
        if self.is_broken or not rows.shape[1]:
            return
        self._samples += samples
        self._waiting.append(rows)
        if sum(r.shape[1] for r in self._waiting) >= _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        rows = np.concatenate(self._waiting, axis=1)
        self._waiting.clear()
        if self._shift is None:
            self._shift = rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        rows = rows - self._shift
        inputs = rows[:, :, : self._features]
        self._sum += rows.sum(axis=1, dtype=np.float64)
        cut, turned = self._features, inputs.transpose(0, 2, 1)
        # A product with itself takes half the time of one with all rows.
        self._square[:, :, :cut] += np.matmul(turned, inputs)
        if rows.shape[2] > cut:
            outputs = rows[:, :, cut:]
            self._square[:, :, cut:] += np.matmul(turned, outputs)
            self._power_out += np.square(outputs.astype(np.float64)).sum(axis=1)
        self._rows += rows.shape[1]

    def result(self) -> Moments | None:
        """Return the moments; None without rows, or where some were not finite."""
        if self._waiting and not self.is_broken:
            self._flush()
        if self.is_broken or self._shift is None:
            return None
        cut = self._features
        apart = self._sum / self._rows
        mean = apart + self._shift[:, 0].astype(np.float64)
        square = self._square / self._rows - apart[:, :cut, None] * apart[:, None, :]
        variance = self._power_out / self._rows - np.square(apart[:, cut:])
        own = square[:, :, :cut]
        return Moments(
            mean=mean[:, :cut],
            centred=(own + own.transpose(0, 2, 1)) / 2.0,
            mean_out=mean[:, cut:],
            cross=square[:, :, cut:],
            variance_out=np.maximum(variance, 0.0),
            rows=self._rows,
            samples=self._samples,
        )


def moments_of(
    graph: Graph, nodes: Iterable[Node], context: Context, samples: Callable[[int], bool]
) -> dict[Node, Moments]:
    """Return the moments of the inputs of matrix products, from one streaming run.

    Nodes that read the same windows of the same tensor share theirs. A node is absent where it is
    no matrix product, the data never reached it, its input was not finite, or memory is spent.

    Args:
        graph: the original.
        nodes: consumers of units, as a rule.
        context: runs the data.
        samples: whether a sample, by number, is taken.
    """
    found = {node: product for node in nodes if (product := product_of(node)) is not None}
    keys = {node: _key(product) for node, product in found.items()}
    by_key = {keys[node]: product for node, product in found.items()}
    sums = _affordable({key: by_key[key] for key in sorted(by_key)})
    read = [by_key[key].source.name for key in sums]
    read += [by_key[key].node.outputs[0].name for key in sums]
    (walk,) = walks([(graph, read)], context, samples)
    for batch in walk.tensors(read):
        for key, total in sums.items():
            product = by_key[key]
            output = batch.tensors[product.node.outputs[0].name]
            picked = pick(product.count(output), product, context.seed, batch.samples)
            space = output.shape[2:]
            rows = product.inputs(batch.tensors[product.source.name], space, picked)
            total.update(rows, None, len(batch.samples))
    made = {key: total.result() for key, total in sums.items()}
    return {n: m for n, key in keys.items() if (m := made.get(key)) is not None}


def pick(count: int, product: MatrixProduct, seed: int, samples: Sequence[int]) -> Array:
    """Return which of the rows of some samples are taken; a seeded choice of each, in order."""
    wanted = -(-ROWS_PER_FEATURE * product.features // _EXPECTED_SAMPLES)
    return pick_rows(count, max(ROWS_PER_SAMPLE, wanted), seed, samples)


def pick_rows(count: int, most: int, seed: int, samples: Sequence[int]) -> Array:
    """Return which rows are taken: the same ones for tensors of the same size.

    Args:
        count: rows of all samples.
        most: rows to take of one.
        seed: of the choice.
        samples: numbers of the samples, which have as many rows each, one behind the other.
    """
    each = count // len(samples)
    if each <= most:
        return np.arange(each * len(samples))
    randoms = (np.random.default_rng((seed, sample, each)) for sample in samples)
    chosen = (np.sort(random.choice(each, most, replace=False)) for random in randoms)
    return np.concatenate([each * index + rows for index, rows in enumerate(chosen)])


def _key(product: MatrixProduct) -> tuple[str, ...]:
    """Return what decides the rows: the tensor, and how windows are laid over it."""
    node, weight = product.node, product.weight
    if not product.is_convolution:
        return (product.source.name,)
    names = ("auto_pad", "dilations", "group", "output_padding", "output_shape", "pads", "strides")
    geometry = tuple(str(node.attribute(name)) for name in names)
    return (product.source.name, node.op, str((weight.shape or ())[2:]), *geometry)


def _affordable(
    products: dict[tuple[str, ...], MatrixProduct],
) -> dict[tuple[str, ...], MomentSums]:
    kept: dict[tuple[str, ...], MomentSums] = {}
    room = LARGEST_BYTES
    for key, product in products.items():
        needed = sums_bytes(product, 0)
        if needed <= room and product.features <= LARGEST_FEATURES:
            room -= needed
            kept[key] = MomentSums(product.groups, product.features, 0)
    return kept


def sums_bytes(product: MatrixProduct, outputs: int) -> int:
    """Return what the sums of a product take."""
    return product.groups * product.features * (product.features + outputs) * 8
