"""The order in which operators are returned to float: most noise for the time saved first."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.cost.base import Estimate
    from graphopt.ir import Graph, Node
    from graphopt.pipeline.layers import Layer
    from graphopt.report import LayerSensitivity

_DYNAMIC_LIMIT = 600
"""With more operators than this, their neighbours are not counted anew for each."""


def gains_of(before: Estimate, after: Estimate) -> tuple[dict[str, float], float]:
    """Return the microseconds that each operator saves by being integer, and those of a border."""
    saved: dict[str, float] = {}
    for sign, estimate in ((1.0, before), (-1.0, after)):
        for kernel in estimate.kernels:
            for name in kernel.nodes:
                saved[name] = saved.get(name, 0.0) + sign * kernel.latency_us
    borders = [k.latency_us for k in after.kernels if k.kind == "quantize"]
    share = 1e-3 * before.latency_ms.value * 1e3 / max(len(before.kernels), 1)
    return saved, max(sum(borders) / len(borders) if borders else 0.0, share)


def ordered(
    layers: Sequence[LayerSensitivity],
    gains: Mapping[str, float],
    border: float,
    near: Mapping[str, set[str]],
) -> list[LayerSensitivity]:
    """Return the layers by noise per microsecond, counting the borders that each one adds."""
    left = {layer.node: layer for layer in layers}
    opened: Counter[str] = Counter()
    result: list[LayerSensitivity] = []

    def merit(layer: LayerSensitivity) -> float:
        around = near.get(layer.node, set())
        borders = max(len(around) - 2 * opened[layer.node], 0)
        price = max(gains.get(layer.node, 0.0), 0.0) + border * (1 + borders)
        return _noise(layer) / price

    if len(left) > _DYNAMIC_LIMIT:
        return sorted(layers, key=merit, reverse=True)
    while left:
        first = max(left.values(), key=merit)
        result.append(left.pop(first.node))
        opened.update(near.get(first.node, set()))
    return result


def _noise(layer: LayerSensitivity) -> float:
    """Return noise power over signal power."""
    return float(10 ** (-min(max(layer.worst_db, -100.0), 200.0) / 10))


def neighbours(graph: Graph, layers: Sequence[Layer]) -> dict[str, set[str]]:
    """Return which of the layers read from each other, over what only moves data."""
    owner = {layer.reference.name: layer.name for layer in layers}
    near: dict[str, set[str]] = {layer.name: set() for layer in layers}
    for layer in layers:
        for name in _sources(graph, layer, owner):
            near[layer.name].add(name)
            near[name].add(layer.name)
    return near


def _sources(graph: Graph, layer: Layer, owner: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    node: Node | None
    for port in layer.inputs:
        value = graph.find(port.name)
        for _ in range(8):
            if value is None or value.name in owner:
                break
            node = value.producer
            value = node.inputs[0] if node is not None and node.inputs else None
        if value is not None and value.name in owner:
            found.add(owner[value.name])
    return found - {layer.name}
