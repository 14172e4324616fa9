"""How far samples are from the means and variances that BatchNormalization nodes remember."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.runtime import IntermediateTensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from graphopt.ir import Graph, Node, Value

    Array = npt.NDArray[Any]
    Feed = Mapping[str, Array]

_LEAST = 1e-8
_LARGEST = 1e3
"""Features are cut off here: a sample that is so far off is not chosen, however far it is."""


@dataclass(frozen=True)
class Remembered:
    """What one node remembers of the data that its model was trained on.

    Args:
        value: the tensor that it normalizes, channels on axis 1.
        mean: float64 [channels].
        variance: float64 [channels], at least 0.
    """

    value: Value
    mean: Array
    variance: Array


def remembered_statistics(graph: Graph) -> tuple[Remembered, ...]:
    """Return what the BatchNormalization nodes of a graph remember, in topological order."""
    found: dict[str, Remembered] = {}
    for node in graph.nodes("BatchNormalization"):
        one = _remembered(node)
        if one is not None:
            found.setdefault(one.value.name, one)
    return tuple(found.values())


def _remembered(node: Node) -> Remembered | None:
    if node.domain or len(node.inputs) < 5 or node.attribute("training_mode", 0):
        return None
    value, mean, variance = node.inputs[0], node.inputs[3], node.inputs[4]
    if value is None or value.is_constant or mean is None or variance is None:
        return None
    if mean.stored is None or variance.stored is None:
        return None
    means, variances = (v.stored.array().astype(np.float64) for v in (mean, variance) if v.stored)
    sound = np.isfinite(means).all() and np.isfinite(variances).all()
    if not sound or means.ndim != 1 or means.shape != variances.shape or not variances.max() > 0:
        return None
    return Remembered(value, means, np.maximum(variances, 0.0))


def features(graph: Graph, remembered: Sequence[Remembered], feeds: Iterable[Feed]) -> Array:
    """Return how far each sample is off, float32 [samples, 2 * channels of all nodes].

    With z = (x - mean) / sqrt(variance), the features of a channel are mean(z) and
    (mean(z^2) - 1) / 2, divided by the root of the number of channels so that every node weighs the
    same. Over samples that are like the training data they average to zero.
    """
    source = IntermediateTensors(graph, [one.value.name for one in remembered])
    rows = []
    for feed in feeds:
        tensors = dict(_parts(source, remembered, feed))
        rows.append(np.concatenate([tensors[one.value.name] for one in remembered]))
    return np.stack(rows)


def _parts(
    source: IntermediateTensors, remembered: Sequence[Remembered], feed: Feed
) -> Iterable[tuple[str, Array]]:
    by_name = {one.value.name: one for one in remembered}
    for name, values in source.tensors(feed):
        yield name, _feature(values, by_name[name])


def _feature(values: Array, one: Remembered) -> Array:
    along = tuple(axis for axis in range(values.ndim) if axis != 1)
    count = max(values.size // max(len(one.mean), 1), 1)
    total = values.sum(axis=along, dtype=np.float64) / count
    square = np.square(values.astype(np.float64)).sum(axis=along) / count
    variance = one.variance + _LEAST * one.variance.max()
    mean = (total - one.mean) / np.sqrt(variance)
    power = (square - 2.0 * one.mean * total + one.mean**2) / variance
    found = np.concatenate([mean, (power - 1.0) / 2.0]) / np.sqrt(len(one.mean))
    bounded = np.clip(np.nan_to_num(found, nan=_LARGEST), -_LARGEST, _LARGEST)
    return np.asarray(bounded, dtype=np.float32)


def mismatch(features: Array) -> float:
    """Return the squared distance of the mean features from zero."""
    return float(np.square(features.mean(axis=0, dtype=np.float64)).sum())


def choose_together(features: Array, count: int) -> Array:
    """Return which samples have, together, the statistics that are remembered, ascending.

    One after the other, always the one that brings the sum of features nearest to zero (herding;
    Welling 2009, "Herding dynamical weights to learn").

    Args:
        features: one row for each sample.
        count: how many; at most all.
    """
    products = np.asarray(features @ features.T, dtype=np.float64)
    own, sums = np.diag(products), np.zeros(len(features))
    cost = np.zeros(len(features))
    chosen = []
    for _ in range(min(count, len(features))):
        best = int(np.argmin(cost + 2.0 * sums + own))
        chosen.append(best)
        sums += products[best]
        cost[best] = np.inf
    return np.sort(np.array(chosen, dtype=np.int64))
