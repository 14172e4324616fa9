"""What closed units gave on average, moved into the biases of the operators that read them.

An operator that sums w_u x_u over its inputs loses w_u E[x_u] with a unit u, for all inputs alike;
added to its bias that costs nothing at run time. Training finds the same, but takes many steps.
Where a convolution pads, sums at the border read fewer inputs than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np

    from graphopt.analysis.coupling import Axis
    from graphopt.ir import Node, Value
    from graphopt_torch.execution import Program
    from graphopt_torch.pruning.sites import Site

    Array = np.ndarray[Any, Any]
    Parameters = Mapping[str, torch.nn.Parameter]
    Tap = Callable[[torch.Tensor], torch.Tensor]

_BIASED = frozenset({"Conv", "Gemm"})


@dataclass(frozen=True, eq=False)
class Reader:
    """An operator with a bias that sums over units of a group.

    Args:
        site: the group.
        source: the axis that it sums over.
        weight: name of its trained weight.
        position: axis of the weight that is summed over; the other of the first two makes outputs.
        bias: name of its trained bias.
    """

    site: Site
    source: Axis
    weight: str
    position: int
    bias: str

    def lost(self, means: torch.Tensor, closing: Array, weights: Parameters) -> torch.Tensor:
        """Return what every output loses with some units; float32 [outputs].

        Args:
            means: of each index of the source.
            closing: which units close; bool [units].
            weights: by name.
        """
        units = torch.as_tensor(self.site.group.units[self.source], device=means.device)
        gone = torch.as_tensor(closing, device=means.device)[units.clamp_min(0)] & (units >= 0)
        weight = weights[self.weight].detach().movedim(self.position, 0)
        summed = weight.reshape(len(units), weight.shape[1], -1).sum(dim=-1)
        return torch.where(gone, means, torch.zeros_like(means)) @ summed


def readers_of(sites: Iterable[Site], trained: Iterable[str]) -> tuple[Reader, ...]:
    """Return the operators whose bias can make up for units; Conv without groups, and Gemm."""
    known = set(trained)
    found = []
    for site in sites:
        for consumer in site.group.consumers:
            node, source = consumer.node, consumer.source
            if node.op in _BIASED and source in site.gates and node.inputs[0] is source.value:
                reader = _reader(site, node, source, known)
                found += [] if reader is None else [reader]
    return tuple(found)


def compensate(
    readers: Sequence[Reader],
    closing: Mapping[str, Array],
    program: Program,
    feeds: Iterable[Mapping[str, torch.Tensor]],
    values: Mapping[str, torch.Tensor],
    taps: Mapping[str, Tap],
    parameters: Parameters,
) -> None:
    """Move what units that close give on average into biases, in place.

    Args:
        readers: of the groups.
        closing: the units that close now, by group; bool [units].
        program: that they are units of.
        feeds: what averages are taken over.
        values: in place of its constants.
        taps: gates as they are before these units close.
        parameters: trained weights by name.
    """
    concerned = [r for r in readers if closing[r.site.name].any()]
    means = _means({r.source for r in concerned}, program, feeds, values, taps)
    with torch.no_grad():
        for reader in concerned:
            lost = reader.lost(means[reader.source], closing[reader.site.name], parameters)
            parameters[reader.bias].add_(lost.reshape(parameters[reader.bias].shape))


def _means(
    axes: Iterable[Axis],
    program: Program,
    feeds: Iterable[Mapping[str, torch.Tensor]],
    values: Mapping[str, torch.Tensor],
    taps: Mapping[str, Tap],
) -> dict[Axis, torch.Tensor]:
    """Return the mean of each index of some axes over everything else."""
    wanted = sorted(axes, key=lambda axis: (axis.value.name, axis.position))
    names = list(dict.fromkeys(axis.value.name for axis in wanted))
    sums: dict[Axis, torch.Tensor] = {}
    runs = 0
    with torch.no_grad():
        for feed in feeds if names else ():
            found = program.run(feed, names, values=values, taps=taps)
            for axis in wanted:
                rows = found[axis.value.name].movedim(axis.position, -1)
                mean = rows.reshape(-1, rows.shape[-1]).float().mean(dim=0)
                sums[axis] = sums.get(axis, torch.zeros_like(mean)) + mean
            runs += 1
    return {axis: total / runs for axis, total in sums.items()}


def _reader(site: Site, node: Node, source: Axis, trained: set[str]) -> Reader | None:
    if len(node.inputs) < 3 or (node.op == "Conv" and node.attribute("group", 1) != 1):
        return None
    if node.op == "Gemm" and (node.attribute("transA", 0) or not _is_plain(node)):
        return None
    weight, bias = (_stored(value) for value in node.inputs[1:3])
    if weight not in trained or bias not in trained:
        return None
    position = 1 if node.op == "Conv" or node.attribute("transB", 0) else 0
    return Reader(site, source, weight, position, bias)


def _is_plain(node: Node) -> bool:
    return bool(node.attribute("alpha", 1.0) == node.attribute("beta", 1.0) == 1.0)


def _stored(value: Value | None) -> str:
    """Return the name of what is stored of a constant, which may be dequantized."""
    if value is not None and value.producer is not None and value.producer.op == "DequantizeLinear":
        value = value.producer.inputs[0]
    return value.name if value is not None and value.is_constant else ""
