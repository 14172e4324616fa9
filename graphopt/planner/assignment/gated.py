"""One model that holds every kernel in every precision, with a switch for each.

Beside each float kernel stands the same kernel in another precision, on the same inputs; a Where
takes the one or the other. So the noise of a kernel at the model's outputs, and that of any choice
of precisions, is one run, without making and opening a model for each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.pipeline.layers import graft
from graphopt.runtime import open_session
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt.pipeline.layers import Layer
    from graphopt.planner.assignment.kernels import Kernels
    from graphopt.targets.base import Target

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]
    Gate = tuple[str, str]

_OFF, _ON = np.array(False), np.array(True)


class GatedModel:
    """The float model with switches.

    Args:
        kernels: and the models that they come from.
        target: fuse as this target would.
        feeds: samples to measure noise on; their float outputs are kept.
    """

    def __init__(self, kernels: Kernels, target: Target | None, feeds: Sequence[Feed]) -> None:
        graph, self.gates = _with_gates(kernels)
        self.feeds = list(feeds)
        self.runs = 0
        self._session = open_session(graph, target=target)
        self._wanted = [self._run(feed, ()) for feed in self.feeds]
        self._signals = [
            sum(float(np.square(o[i], dtype=np.float64).sum()) for o in self._wanted)
            if self._wanted[0][i].dtype.kind == "f"
            else 0.0
            for i in range(len(self._wanted[0]))
        ]

    def noise(self, gates: Iterable[Gate]) -> float:
        """Return noise power over signal power of the worst output, with these gates on.

        Infinity where an output is not finite.
        """
        chosen = tuple(gates)
        noises = [0.0] * len(self._signals)
        for feed, wanted in zip(self.feeds, self._wanted, strict=True):
            for index, found in enumerate(self._run(feed, chosen)):
                if self._signals[index]:
                    error = np.subtract(found, wanted[index], dtype=np.float64)
                    noises[index] += float(np.square(error).sum())
        ratios = (n / s for n, s in zip(noises, self._signals, strict=True) if s)
        worst = max(ratios, default=0.0)
        return worst if math.isfinite(worst) else math.inf

    def _run(self, feed: Feed, on: Sequence[Gate]) -> list[Array]:
        self.runs += 1
        switches = dict.fromkeys(self.gates.values(), _OFF)
        switches |= {self.gates[gate]: _ON for gate in on if gate in self.gates}
        return self._session.run({**feed, **switches})


def _with_gates(kernels: Kernels) -> tuple[Graph, dict[Gate, str]]:
    """Return the model with switches, and the name of each one's input by kernel and precision."""
    joined = next(iter(kernels.graphs.values()))
    beside: list[tuple[Layer, str, str]] = []
    for label, forms in kernels.forms.items():
        joined, alone = graft(joined, forms.values())
        beside += [(forms[name], label, result) for name, result in alone.items()]
    gates = {}
    for layer, label, result in beside:
        gate = joined.new_value(joined.unique_name(f"gate {layer.name} {label}"))
        gate.dtype, gate.shape = DType.BOOL, ()
        joined.add_input(gate)
        gates[layer.name, label] = gate.name
        plain, other = joined.value(layer.reference.name), joined.value(result)
        name = joined.unique_name(f"{layer.reference.name}_gated")
        choice = joined.add_node("Where", [gate, other, plain], [name])
        choice.outputs[0].dtype, choice.outputs[0].shape = plain.dtype, plain.shape
        joined.replace_uses(plain, choice.outputs[0])
        choice.set_input(2, plain)
    joined.sort()
    return joined, gates
