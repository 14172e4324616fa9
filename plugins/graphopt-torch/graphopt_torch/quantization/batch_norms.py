"""Statistics of BatchNormalization, measured anew after the weights in front of it were trained.

Where a graph keeps its BatchNormalization, mean and variance are constants in training: they are
those of the weights that the model came with. Afterwards they can be made those of the weights that
it has now. One after the other, as each changes what the next one sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt.ir import Tensor as Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from graphopt.ir import Graph, Node
    from graphopt_torch.execution import Program

    Array = np.ndarray[Any, Any]

Tensor = torch.Tensor


def reestimate_batch_norms(
    graph: Graph,
    program: Program,
    samples: Iterable[Mapping[str, Tensor]],
    *,
    values: Mapping[str, Tensor] | None = None,
) -> int:
    """Set mean and variance of every BatchNormalization to those of its input over the samples.

    mean_c = E[x_c], var_c = E[(x_c - mean_c)^2] over all samples and positions (that of the
    population), accumulated in 64 bits and stored in the type that is there. The input is what the
    graph computes with all that come before measured anew. Statistics that two nodes share, and
    those of channels that are never finite, stay.

    Args:
        graph: gets the statistics; nothing else of it changes.
        program: made of it.
        samples: feeds by name; gone through once for each BatchNormalization in a row.
        values: trained constants that the graph has not got yet.

    Returns:
        How many BatchNormalization were measured.
    """
    given = dict(values or {})
    measured = 0
    for level in _levels(graph):
        names = {_input(n) for n in level}
        moments = _moments(program, samples, sorted(names), given)
        for node in level:
            found = moments.get(_input(node))
            if found is None or not np.isfinite(found.mean).all():
                continue
            for index, numbers in ((3, found.mean), (4, found.variance)):
                value = node.inputs[index]
                assert value is not None
                assert value.stored is not None
                stored = Stored.from_array(numbers.astype(value.array().dtype), value.stored.dtype)
                graph.set_tensor(value, stored)
                like = program.constants[value.name]
                given[value.name] = torch.from_numpy(np.array(stored.array())).to(like)
            measured += 1
    return measured


class _Moments:
    """Mean and variance of each channel, merged from parts (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Array = np.zeros(())
        self._squares: Array = np.zeros(())

    @property
    def variance(self) -> Array:
        """Variance of the population."""
        return np.asarray(self._squares / max(1, self.count))

    def update(self, x: Tensor) -> None:
        """Add values [samples, channels, ...]."""
        rows = x.double().movedim(1, 0).flatten(1)
        count, mean = rows.shape[1], rows.mean(1)
        squares = (rows - mean[:, None]).square().sum(1).cpu().numpy()
        shift = mean.cpu().numpy() - self.mean
        total = self.count + count
        self._squares = self._squares + squares + shift**2 * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


@torch.no_grad()
def _moments(
    program: Program,
    samples: Iterable[Mapping[str, Tensor]],
    names: list[str],
    values: Mapping[str, Tensor],
) -> dict[str, _Moments]:
    found: dict[str, _Moments] = {}
    for feeds in samples:
        for name, x in program.run(feeds, names, values=values).items():
            found.setdefault(name, _Moments()).update(x)
    return found


def _input(node: Node) -> str:
    value = node.inputs[0]
    assert value is not None
    return value.name


def _levels(graph: Graph) -> list[list[Node]]:
    """Return the nodes to measure in groups, none of which computes what another of it reads."""
    depth: dict[Node, int] = {}
    groups: dict[int, list[Node]] = {}
    for node in graph.nodes():
        before = [v.producer for v in node.inputs if v is not None and v.producer is not None]
        level = max((depth.get(n, 0) for n in before), default=0)
        if node.op == "BatchNormalization" and _is_measurable(node):
            groups.setdefault(level, []).append(node)
            level += 1
        depth[node] = level
    return [groups[level] for level in sorted(groups)]


def _is_measurable(node: Node) -> bool:
    """Whether a node works with statistics of its own that the graph stores."""
    held = [v for v in node.inputs[3:5] if v is not None and v.is_initializer]
    own = len(held) == 2 and all(len(v.uses) == 1 and v.tensor is not None for v in held)
    return own and not node.domain and not node.attribute("training_mode", 0)
