"""A training pass that needs no torch, for tests of where and with what training happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from graphopt import ir
from graphopt.hookspecs import hookimpl
from graphopt.passes.base import PassResult
from graphopt.passes.prune.outputs import output_divergence
from graphopt.registry import BUILTIN_PLUGINS, Registry
from graphopt.types import Effect

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Context


@dataclass(frozen=True)
class Seen:
    """What a run of the pass was given."""

    steps: int
    minutes: float
    quantized: bool
    samples: int
    nodes_of_original: int


SEEN: list[Seen] = []
"""Every run that did something, in order; tests clear it."""


@dataclass(frozen=True)
class DistillWeights:
    """Scales one tensor by next to nothing, and says that it took a thousand steps a minute.

    Args:
        minutes: how long.
        steps: or how many steps; more than the time.
        rate: is what it divides the divergence by that it reports.
    """

    name: ClassVar[str] = "distill-weights"
    effect: ClassVar[Effect] = Effect.REDUCED

    minutes: float = 0.0
    steps: int = 0
    rate: float = 2.0

    def run(self, graph: Graph, context: Context) -> PassResult:
        if not self.minutes and not self.steps:
            return PassResult(False)
        steps = self.steps or int(1000 * self.minutes)
        quantized = bool(graph.nodes("DequantizeLinear"))
        before = output_divergence(context.original, graph, context, lambda i: i % 5 == 0) or 0.0
        total = len({sample for sample, _, _ in context.stream(graph, [graph.feeds[0].name])})
        SEEN.append(
            Seen(steps, self.minutes, quantized, total, len(list(context.original.nodes())))
        )
        _nudge(graph, steps)
        metrics = {"divergence": before / self.rate, "divergence before": before}
        settled = {"minutes": 0.0, "steps": steps}
        return PassResult(True, (f"trained for {steps} steps",), metrics, settled)


def _nudge(graph: Graph, steps: int) -> None:
    value = next(v for v in graph.initializers if v.tensor.dtype.name in {"FLOAT", "INT32"})
    array = np.array(value.tensor.array())
    array = array * array.dtype.type(1.001) if array.dtype.kind == "f" else array + steps % 2
    graph.set_tensor(value, ir.Tensor.from_array(array, value.tensor.dtype))


class Plugin:
    """What the plugin would register."""

    def __init__(self, *kinds: type[Any]) -> None:
        self.kinds = list(kinds)

    @hookimpl
    def graphopt_register_passes(self) -> list[type[Any]]:
        return self.kinds


def registry_with(*kinds: type[Any]) -> Registry:
    """Return the built-in things and these passes, and no plugin that is installed."""
    return Registry(builtins=[*BUILTIN_PLUGINS, Plugin(*kinds)], plugins=())
