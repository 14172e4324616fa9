"""What becomes of every index of a tensor's axes, and what decides it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling import Axis
from graphopt.analysis.coupling.couple import BORDERS
from graphopt.analysis.coupling.groups import UNREAD
from graphopt.analysis.prunability.facts import AxisFacts, AxisPart, Origin, TensorFacts, Tie
from graphopt.analysis.prunability.groups import unit_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graphopt.analysis.coupling import Group
    from graphopt.analysis.coupling.couple import Trace
    from graphopt.ir import Node, Value

    Array = np.ndarray[Any, Any]
    Fate = tuple[Group | None, tuple[str, ...]]


def explain_value(trace: Trace, value: Value, axis: int | None = None) -> TensorFacts:
    """Return what becomes of the axes of a tensor, or of one of them.

    Args:
        trace: of the graph.
        value: a tensor of the graph.
        axis: position from the front; all when None.
    """
    shape = value.shape
    positions = range(len(shape or ())) if axis is None else (axis,)
    return TensorFacts(
        name=value.name,
        dtype=value.dtype.numpy_name if value.dtype is not None else "?",
        shape=shape,
        role=_role(value),
        maker=value.producer.label if value.producer is not None else None,
        readers=tuple(dict.fromkeys(node.label for node in value.consumers)),
        axes=tuple(_axis(trace, Axis(value, position)) for position in positions),
    )


def _role(value: Value) -> str:
    if value.is_constant:
        return "weight"
    if value.is_input:
        return "input"
    return "output" if value.is_output else "activation"


def _axis(trace: Trace, axis: Axis) -> AxisFacts:
    size = (axis.value.shape or ())[axis.position]
    if axis not in trace.links.table or axis.size == 1:
        return AxisFacts(axis.position, size, ())
    labels = trace.labels[trace.links.table.atoms(axis)]
    parts = []
    for (group, _), indices in _fates(trace, axis, labels):
        mine = np.unique(labels[indices])
        parts.append(
            AxisPart(
                ranges=_ranges(indices),
                group=group.name if group is not None else None,
                unit=unit_of(group, trace) if group is not None else "",
                origins=() if group is not None else _origins(trace, axis, mine),
                ties=tuple(_ties(trace, axis, mine)),
            )
        )
    return AxisFacts(axis.position, size, tuple(parts))


def _fates(trace: Trace, axis: Axis, labels: Array) -> Iterator[tuple[Fate, Array]]:
    """Yield what becomes of indices, with those that share it, in order of the first."""
    fates: dict[Fate, list[int]] = defaultdict(list)
    why = _reasons_by_label(trace, labels)
    owner: dict[int, Group] = {}
    for group in trace.coupling.of(*axis):
        owner |= dict.fromkeys(np.flatnonzero(group.units[axis] >= 0).tolist(), group)
    for index, label in enumerate(labels.tolist()):
        mine = owner.get(index)
        fates[(mine, () if mine is not None else why.get(label, ()))].append(index)
    for fate, indices in fates.items():
        yield fate, np.array(indices)


def _reasons_by_label(trace: Trace, labels: Array) -> dict[int, tuple[str, ...]]:
    found: dict[int, dict[str, None]] = defaultdict(dict)
    for atoms, reason in trace.links.frozen:
        for label in np.intersect1d(trace.labels[atoms], labels).tolist():
            found[label][reason] = None
    return {label: tuple(sorted(reasons)) for label, reasons in found.items()}


def _origins(trace: Trace, axis: Axis, mine: Array) -> tuple[Origin, ...]:
    """Return why components stay: each reason once, at this axis if it was said of it."""
    table = trace.links.table
    own = table.atoms(axis)
    owners = table.owners()
    found: dict[str, tuple[bool, str, int]] = {}
    for atoms, reason in trace.links.frozen:
        here = atoms[np.isin(trace.labels[atoms], mine)]
        # Atoms of axes that no tensor has are of no use to a reader.
        here = here[here < table.seen]
        if not here.size:
            continue
        at = axis if np.isin(here, own).any() else table.axes[owners[here.min()]]
        seat = (at != axis, at.value.name, at.position)
        found[reason] = min(found.get(reason, seat), seat)
    if len(found) > 1:
        found.pop(UNREAD, None)
    # What is said of this very axis comes first, then what no other rule could change.
    said = sorted(found.items(), key=lambda item: (item[1][0], item[0] not in BORDERS, item[0]))
    return tuple(Origin(reason, name, position) for reason, (_, name, position) in said)


def _ties(trace: Trace, axis: Axis, mine: Array) -> Iterator[Tie]:
    """Yield the operators that couple indices of an axis with others, and with which."""
    for node in _around(axis.value):
        axes = dict.fromkeys(
            (other.value.name, other.position)
            for other in _axes(node)
            if other != axis and _shares(trace, other, mine)
        )
        if axes:
            yield Tie(node.label, node.op, tuple(axes))


def _around(value: Value) -> Iterable[Node]:
    makers = [value.producer] if value.producer is not None else []
    return dict.fromkeys([*makers, *value.consumers])


def _axes(node: Node) -> Iterator[Axis]:
    for value in dict.fromkeys((*node.inputs, *node.outputs)):
        if value is not None and value.name:
            yield from (Axis(value, position) for position in range(len(value.shape or ())))


def _shares(trace: Trace, other: Axis, mine: Array) -> bool:
    table = trace.links.table
    if other not in table or other.size == 1:
        return False
    return bool(np.isin(trace.labels[table.atoms(other)], mine).any())


def _ranges(indices: Array) -> tuple[tuple[int, int], ...]:
    """Return the runs of ascending indices as (first, last)."""
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    runs = np.split(indices, breaks)
    return tuple((int(run[0]), int(run[-1])) for run in runs)
