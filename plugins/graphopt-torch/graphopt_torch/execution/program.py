"""Program: a graph that torch executes, with gradients to whatever is given to it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from graphopt import ir
from graphopt.errors import DataError, ModelError
from graphopt_torch.execution.as_executed import as_executed
from graphopt_torch.execution.element_types import constant, widened
from graphopt_torch.execution.operators.blockwise import dequantized_name
from graphopt_torch.execution.planning import Wish, plan
from graphopt_torch.execution.steps import steps_of
from graphopt_torch.execution.unsupported import demand_supported

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.ir import Graph
    from graphopt_torch.execution.plan import Plan
    from graphopt_torch.execution.steps import Step

Tensor = torch.Tensor
_OLDEST = 7


class Program:
    """A graph as steps that torch takes; the graph itself is not touched and not kept.

    Attributes:
        inputs: names of the tensors that have to be fed.
        outputs: names of the tensors that the graph returns.
        constants: initializers and values of Constant nodes by tensor name; integers of 4 and 2
            bits are unpacked, unsigned integers of more than 8 bits are held in the next type that
            torch computes with.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        constants: Mapping[str, Tensor],
        steps: Sequence[Step],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.constants: Mapping[str, Tensor] = MappingProxyType(dict(constants))
        self._steps = steps
        self._made = {name for step in steps for name in step.outputs if name}
        self._plans: dict[Wish, Plan] = {}
        self._executed: Sequence[Step] = ()

    @classmethod
    def of(cls, graph: Graph, *, device: str = "cpu") -> Program:
        """Make the program of a graph; its constants are copied to the device.

        Raises:
            ModelError: G207, names every operator and node that torch cannot execute here.
        """
        graph = _prepared(graph)
        demand_supported(graph)
        made = cls._made_of(graph, (), device)
        made._executed = _executed_steps(graph, device)
        return made

    @classmethod
    def inside(cls, graph: Graph, outer: tuple[str, ...], *, device: str = "cpu") -> Program:
        """Make the program of a supported graph inside a node; ``outer`` is fed as well."""
        return cls._made_of(graph, outer, device)

    @classmethod
    def _made_of(cls, graph: Graph, outer: tuple[str, ...], device: str) -> Program:
        stored = {v.name: v.tensor for v in graph.values() if v.stored is None}
        stored |= {v.name: v.stored for v in graph.initializers}
        constants = {n: constant(t, device) for n, t in stored.items() if t is not None}
        inputs = (*(v.name for v in graph.feeds), *outer)
        steps = steps_of(graph, device)
        return cls(inputs, tuple([v.name for v in graph.outputs]), constants, steps)

    def run(
        self,
        feeds: Mapping[str, Tensor],
        outputs: Sequence[str] | None = None,
        *,
        values: Mapping[str, Tensor] | None = None,
        taps: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """Return tensors by name: the outputs of the graph, or any that are named.

        Only what they need is computed, and a tensor is let go of after its last use unless a
        gradient needs it. What rests on constants alone is computed at the first run only.

        Args:
            feeds: tensors by the names of the inputs.
            outputs: names of the wanted tensors; those of the graph when None.
            values: taken in the place of the constants, or computed tensors, of these names.
            taps: applied to the tensors of these names where they are made; every reader gets
                what they return.

        Raises:
            DataError: G212, an input is missing.
            ModelError: G205, there is no tensor of that name.
        """
        wanted = self.outputs if outputs is None else tuple(outputs)
        given = {**feeds, **values} if values else dict(feeds)
        tapped = frozenset(taps) if taps else frozenset()
        wish = Wish(wanted, frozenset(given), tapped)
        made = self._plans.get(wish)
        if made is None:
            made = self._plans[wish] = self._plan(wish)
        for name in self.inputs:
            if name in made.given:
                given[name] = widened(given[name])
        return dict(zip(wanted, made.run(given, taps or {}), strict=True))

    def _plan(self, wish: Wish) -> Plan:
        known = self._made | self.constants.keys() | set(self.inputs)
        for name in (*wish.outputs, *wish.given, *wish.tapped):
            if name not in known:
                raise ModelError(f"the graph has no tensor `{name}`", code="G205")
        try:
            return plan(wish, self._steps_for(wish), self.constants)
        except KeyError as error:
            raise DataError(
                f"the input {error.args[0]!r} is not fed",
                code="G212",
                hint="feed every input: " + ", ".join(self.inputs),
            ) from None

    def _steps_for(self, wish: Wish) -> Sequence[Step]:
        """Return the steps of integer kernels, unless what stands between Q and DQ is changed."""
        if not self._executed:
            return self._steps
        apart = {n for s in self._steps if s.op == "QuantizeLinear" for n in s.outputs}
        apart |= {n for n in self._made if n.endswith(dequantized_name(""))}
        changed = (wish.tapped | wish.given) & self._made - apart
        return self._steps if changed else self._executed


def _executed_steps(graph: Graph, device: str) -> Sequence[Step]:
    """Return the steps with integer kernels in the place of the Q; empty where there is no Q."""
    if not any(n.op == "QuantizeLinear" for n in graph.nodes()):
        return ()
    return steps_of(as_executed(graph), device)


def _prepared(graph: Graph) -> Graph:
    """Return a graph that computes the same, without local functions; a copy where that differs."""
    if not graph.functions and graph.opset >= _OLDEST:
        return graph
    graph = graph.copy()
    ir.inline_functions(graph)
    if graph.opset < _OLDEST:
        ir.upgrade_opset(graph, _OLDEST)
    return graph
