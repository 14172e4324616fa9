"""What a measured model executed: kernels with their signatures beside what the profiler saw."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.executed import executed_kernels
from graphopt.cost.kernels import group_kernels
from graphopt.cost.layout import assign_layouts
from graphopt.cost.signature import Signature, signature_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.kernels import Kernel
    from graphopt.cost.profiling.results import KernelEvent
    from graphopt.ir import Graph
    from graphopt.targets.base import Target

_TAG = re.compile(r"(?:^|[^0-9a-z])k(\d+)_(\d+)_")
"""Unit and number of an operator that ``builder.Builder`` named, wherever it ended up."""


@dataclass(frozen=True)
class Executed:
    """One kernel of a measured model.

    Args:
        signature: what decides its time.
        unit: of the chain that it belongs to; a copy belongs to the kernel that follows it, and
            0 is before, and -1 behind, all of them.
        us: under the profiler; None where it was not seen.
        median_us: the median.
    """

    signature: Signature
    unit: int
    us: float | None
    median_us: float | None


def kernels_of(graph: Graph, target: Target) -> tuple[Kernel, ...]:
    """Return the kernels of a model in order: the runtime's own where it is at hand."""
    kernels = executed_kernels(graph, target)
    if isinstance(kernels, str):
        kernels, _ = assign_layouts(group_kernels(graph, target), target)
    return kernels


def executed(
    kernels: Sequence[Kernel], events: Sequence[KernelEvent]
) -> tuple[Executed, ...] | str:
    """Return kernels with what the profiler saw of them, or why they are not what was run.

    Args:
        kernels: of the model, in order.
        events: what the profiler saw.
    """
    names = {kernel.node.name: i for i, kernel in enumerate(kernels)}
    if len(names) == len(kernels) and {event.name for event in events} == names.keys():
        return _placed(kernels, {names[event.name]: event for event in events})
    if [kernel.node.op for kernel in kernels] == [event.op for event in events]:
        return _placed(kernels, dict(enumerate(events)))
    matched = _by_tag(kernels, events)
    return matched if isinstance(matched, str) else _placed(kernels, matched)


def _placed(kernels: Sequence[Kernel], events: dict[int, KernelEvent]) -> tuple[Executed, ...]:
    units = [_unit(kernel) for kernel in kernels]
    placed: list[Executed] = []
    for index in reversed(range(len(kernels))):
        following = placed[-1].unit if placed else -1
        unit, event = units[index], events.get(index)
        placed.append(
            Executed(
                signature=signature_of(kernels[index]),
                unit=following if unit is None else unit,
                us=None if event is None else event.us,
                median_us=None if event is None else event.median_us,
            )
        )
    return tuple(reversed(placed))


def _unit(kernel: Kernel) -> int | None:
    """Return the unit that names tell; None for what the runtime inserted."""
    node = kernel.node
    tags = (_TAG.search(name) for name in (node.name, *(v.name for v in node.outputs)))
    return next((int(tag.group(1)) for tag in tags if tag), None)


def _by_tag(
    kernels: Sequence[Kernel], events: Sequence[KernelEvent]
) -> dict[int, KernelEvent] | str:
    """Match kernels that were predicted with those that the profiler saw, by operators' names."""
    owners: dict[str, int] = {}
    for index, kernel in enumerate(kernels):
        for node in kernel.nodes:
            tag = _TAG.search(node.name)
            if tag:
                owners.setdefault(tag.group(0), index)
    found: dict[int, KernelEvent] = {}
    for event in events:
        tag = _TAG.search(event.name)
        if tag is None:
            continue
        owner = owners.get(tag.group(0))
        if owner is None or owner in found:
            return f"the device ran `{event.op}`, which was not expected"
        found[owner] = event
    missing = [k for i, k in enumerate(kernels) if i not in found and not k.is_view]
    return f"the device ran no `{missing[0].name}`" if missing else found
