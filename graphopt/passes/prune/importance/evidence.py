"""What is known of a group: the weights around its units, and what the data say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.importance.base import ConsumerView, Evidence, ProducerView
from graphopt.passes.prune.reconstruct.rows import product_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graphopt.analysis.coupling import Axis, Consumer, Group
    from graphopt.ir import Node
    from graphopt.passes.prune.reconstruct.moments import Moments
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct

    Array = np.ndarray[Any, Any]


def evidence_for(group: Group, moments: Mapping[Node, Moments], seed: int) -> Evidence:
    """Return what criteria are shown of a group.

    Args:
        group: of the original graph.
        moments: of inputs of its consumers; those that are absent are shown without data.
        seed: of every random choice.
    """
    consumers = sorted(group.consumers, key=_consumer_order)
    producers = sorted(group.producers, key=lambda p: (p.weight.value.name, p.weight.position))
    views = tuple(view for consumer in consumers for view in _views(group, consumer, moments))
    made = tuple(
        ProducerView(p, _slices(p.weight), group.units[p.weight])
        for p in producers
        if p.weight in group.units and p.weight.value.is_constant
    )
    return Evidence(group.size, views, made, seed)


def _consumer_order(consumer: Consumer) -> tuple[str, str, int]:
    axis = consumer.source or consumer.weight
    made = consumer.node.outputs[0].name
    return (made, axis.value.name, axis.position) if axis is not None else (made, "", 0)


def _slices(axis: Axis) -> Array:
    """Return the weights at each index of an axis; float64 [indices, weights of one]."""
    array = axis.value.array().astype(np.float64)
    return np.moveaxis(array, axis.position, 0).reshape(array.shape[axis.position], -1)


def _views(
    group: Group, consumer: Consumer, moments: Mapping[Node, Moments]
) -> Iterator[ConsumerView]:
    product = product_of(consumer.node)
    source = consumer.source
    if product is not None and source is not None and source in group.units:
        unit = _unit_of_features(product, source, group.units[source])
        if unit is not None:
            yield from _product_views(consumer, product, unit, moments.get(consumer.node))
            return
    weight = consumer.weight
    if weight is not None and weight in group.units and weight.value.is_constant:
        yield ConsumerView(consumer, _slices(weight), group.units[weight])


def _unit_of_features(product: MatrixProduct, source: Axis, units: Array) -> Array | None:
    """Return the unit of every feature, [groups, features]; None where another axis is summed."""
    if source.value is not product.source or source.position != product.source_axis:
        return None
    wide = np.repeat(units, product.taps)
    wanted = product.groups * product.features
    return wide.reshape(product.groups, -1) if wide.size == wanted else None


def _product_views(
    consumer: Consumer, product: MatrixProduct, unit: Array, moments: Moments | None
) -> Iterator[ConsumerView]:
    matrix = product.matrix()
    for index in range(product.groups):
        if moments is None:
            yield ConsumerView(consumer, matrix[index], unit[index])
            continue
        yield ConsumerView(
            consumer,
            matrix[index],
            unit[index],
            second=moments.second[index],
            mean=moments.mean[index],
            rows=moments.worth,
        )
