"""Why weights stay as they are, by share of the model."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.coupling import Axis
from graphopt.analysis.prunability.facts import Stays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graphopt.analysis.coupling import Coupling
    from graphopt.analysis.coupling.couple import Trace
    from graphopt.ir import Value

    Array = np.ndarray[Any, Any]

_QUOTED = re.compile(r"`[^`]*`")


@dataclass
class _Tally:
    """What was found for one kind of reason."""

    count: float = 0.0
    reasons: set[str] = field(default_factory=set)
    tensors: set[str] = field(default_factory=set)


def what_stays(trace: Trace, weights: Mapping[Value, int]) -> tuple[Stays, ...]:
    """Return why channels of weights stay, most weights first.

    Each weight counts once, along the axis that makes channels; where none does, along that which
    is summed over, or else along the longest.

    Args:
        trace: of the graph.
        weights: numbers stored, by weight.
    """
    total = sum(weights.values())
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    main = _main_axes(trace)
    for value, size in weights.items():
        axis = main.get(value) or _longest(value)
        for indices, reason in _reasons(trace.coupling, axis):
            tally = tallies[_QUOTED.sub("", reason)]
            tally.count += size * indices / (axis.size or 1)
            tally.reasons.add(reason)
            tally.tensors.add(value.name)
    found = [
        Stays(min(t.reasons), t.count / total, len(t.reasons) - 1, tuple(sorted(t.tensors)))
        for t in tallies.values()
    ]
    return tuple(sorted(found, key=lambda s: (-s.share, s.reason)))


def _reasons(coupling: Coupling, axis: Axis) -> Iterator[tuple[int, str]]:
    """Yield (how many indices, why they stay) of an axis."""
    if axis.size == 1:
        yield 1, "it has one channel"
        return
    left = axis.size or 0
    for group in coupling.of(*axis):
        left -= int((group.units[axis] >= 0).sum())
    for indices, reason in coupling.why(*axis):
        left -= len(indices)
        yield len(indices), reason
    if left > 0:
        yield left, "it is the only channel of its kind"


def _main_axes(trace: Trace) -> dict[Value, Axis]:
    found: dict[Value, Axis] = {}
    made = [producer.weight for producer in trace.links.producers]
    made += [b for p in trace.links.producers if (b := p.bias) is not None]
    summed = [c.weight for c in trace.links.consumers if c.weight is not None]
    for axis in (*made, *summed):
        found.setdefault(axis.value, axis)
    return found


def _longest(value: Value) -> Axis:
    sizes = [d if isinstance(d, int) else 0 for d in value.shape or ()]
    return Axis(value, int(np.argmax(sizes)))
