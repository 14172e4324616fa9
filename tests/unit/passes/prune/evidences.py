"""Evidence made by hand, and its exact least squares errors by brute force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling import Consumer
from graphopt.passes.prune.importance.base import ConsumerView, Evidence, ProducerView
from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt import ir

Array = np.ndarray[Any, Any]


def some_node() -> ir.Node:
    """Return a node for views to point to."""
    model = graph("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    return model.nodes()[0]


def view(rows: Array, weight: Array, unit: Array, node: ir.Node | None = None) -> ConsumerView:
    """Return a view whose moments are those of ``rows``, float64."""
    consumer = Consumer(node or some_node(), None, None)
    second = rows.T @ rows / len(rows)
    return ConsumerView(consumer, weight, unit, second, rows.mean(axis=0), len(rows))


def producer(weight: Array, unit: Array) -> ProducerView:
    """Return a view of weights that make units."""
    return ProducerView(None, weight, unit)  # type: ignore[arg-type]


def random_evidence(seed: int, units: int, taps: int, views: int) -> tuple[Evidence, list[Array]]:
    """Return evidence with correlated inputs, one more feature that stays, and the rows."""
    random = np.random.default_rng(seed)
    features = units * taps + 1
    made, inputs = [], []
    for _ in range(views):
        mixing = random.standard_normal((features, features))
        rows = random.standard_normal((6 * features, features)) @ mixing + random.normal(size=1)
        unit = random.permutation(np.append(np.repeat(np.arange(units), taps), -1))
        made.append(view(rows, random.standard_normal((features, 3)), unit))
        inputs.append(rows)
    return Evidence(units, tuple(made), ()), inputs


def condition(evidence: Evidence, inputs: list[Array], kept: Array) -> float:
    """Return the largest condition number of what is refitted to; normal equations square it."""
    found = [1.0]
    for one, rows in zip(evidence.consumers, inputs, strict=True):
        stays = np.array([u < 0 or kept[u] for u in one.unit])
        found.append(float(np.linalg.cond((rows - rows.mean(axis=0))[:, stays])))
    return max(found)


def fitted_error(evidence: Evidence, inputs: list[Array], kept: Array) -> float:
    """Return the squared error after refitting to the kept units, as shares of power, by lstsq."""
    total = 0.0
    for one, rows in zip(evidence.consumers, inputs, strict=True):
        x = rows - rows.mean(axis=0)
        y = x @ one.weight
        stays = np.array([u < 0 or kept[u] for u in one.unit])
        solution = np.linalg.lstsq(x[:, stays], y, rcond=None)[0]
        total += np.square(y - x[:, stays] @ solution).sum() / np.square(y).sum()
    return total
