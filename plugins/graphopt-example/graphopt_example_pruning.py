"""Prune through DFT, and an importance criterion: how much a unit fluctuates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt.analysis.coupling import Axis, CouplingRule
from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Links
    from graphopt.ir import Node
    from graphopt.passes.prune.importance.base import Evidence, Importance

    Array = np.ndarray[Any, Any]


def couple_dft(node: Node, links: Links) -> None:
    """Pass channels on: the transform mixes one axis and takes the last for real and imaginary."""
    source, made = node.inputs[0], node.outputs[0]
    mixed = transformed_axis(node)
    if source is None or source.shape is None or mixed is None:
        links.freeze_node(node, f"which axis DFT `{node.label}` transforms is not known")
        return
    rank = len(source.shape)
    for position in set(range(rank - 1)) - {mixed % rank}:
        links.tie(Axis(source, position), Axis(made, position))


def transformed_axis(node: Node) -> int | None:
    """Return the axis: an attribute until operator set 19, an input from 20; None if unknown."""
    if node.graph.opset < 20:
        return int(node.attribute("axis", 1))
    given = node.inputs[2] if len(node.inputs) > 2 else None
    if given is None:
        return -2
    return int(given.array().item()) if given.is_constant else None


@dataclass(frozen=True)
class Fluctuation:
    """Variance of a unit times the squared weights that read it, as a share of all.

    What does not vary can be replaced by its mean (An et al. 2024, "Fluctuation-based adaptive
    structured pruning"). Without data every unit is taken to vary alike.
    """

    name: ClassVar[str] = "fluctuation"

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return the mean share over the consumers; float64 [units]. ``kept`` does not matter."""
        total = np.zeros(evidence.units)
        for view in evidence.consumers:
            worth = np.square(view.weight).sum(axis=1)
            if view.second is not None and view.mean is not None:
                worth *= np.maximum(np.diag(view.second) - np.square(view.mean), 0.0)
            mine = view.unit >= 0
            whole = max(worth[mine].sum(), np.finfo(np.float64).tiny)
            np.add.at(total, view.unit[mine], worth[mine] / whole)
        return total / max(len(evidence.consumers), 1)


@hookimpl
def graphopt_register_coupling() -> list[CouplingRule]:
    """Give graphopt the rule."""
    return [CouplingRule("DFT", couple_dft)]


@hookimpl
def graphopt_register_importance() -> list[type[Importance]]:
    """Give graphopt the criterion."""
    return [Fluctuation]
