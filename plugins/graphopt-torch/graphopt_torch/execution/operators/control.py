"""Branches and loops: their bodies are programs of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from graphopt_torch.execution.registry import operator

if TYPE_CHECKING:
    from graphopt.ir import Graph, Node
    from graphopt_torch.execution.program import Program
    from graphopt_torch.execution.registry import Kernel

Tensor = torch.Tensor


def captured(node: Node) -> tuple[str, ...]:
    """Return the names of outer tensors that the bodies of a node read, each once."""
    found: dict[str, None] = {}
    for body in node.subgraphs:
        inner = {body, *(g for n in body.walk() for g in n.subgraphs)}
        read = [v for n in body.walk() for v in n.inputs if v is not None]
        returned = [v for g in inner for v in g.outputs]
        found.update((v.name, None) for v in (*read, *returned) if v.graph not in inner)
    return tuple(sorted(found))


class _Body:
    """A graph inside a node, called by position; its constants lie where the inputs lie."""

    def __init__(self, graph: Graph, outer: tuple[str, ...]) -> None:
        self.graph = graph
        self.outer = outer
        self.programs: dict[torch.device, Program] = {}

    def __call__(self, values: tuple[Any, ...], around: tuple[Any, ...]) -> list[Tensor]:
        given = [t for t in (*values, *around) if t is not None]
        program = self._program(given[0].device if given else torch.device("cpu"))
        feeds = dict(zip(self.outer, around, strict=True))
        feeds.update(zip(program.inputs[: len(values)], values, strict=True))
        found = program.run(feeds)
        return [found[name] for name in program.outputs]

    def _program(self, device: torch.device) -> Program:
        from graphopt_torch.execution.program import Program

        if device not in self.programs:
            made = Program.inside(self.graph, self.outer, device=str(device))
            self.programs[device] = made
        return self.programs[device]


def _true(condition: Tensor) -> bool:
    return bool(condition.reshape(()).item())


@operator("If", irregular=True)
def _branch(node: Node, _version: int) -> Kernel:
    outer = captured(node)
    then, other = (_Body(node.attribute(n), outer) for n in ("then_branch", "else_branch"))

    def kernel(condition: Tensor, *around: Tensor) -> Any:
        return tuple((then if _true(condition) else other)((), around))

    return kernel


@operator("Loop", irregular=True)
def _loop(node: Node, _version: int) -> Kernel:
    outer = captured(node)
    body, own = _Body(node.attribute("body"), outer), len(node.inputs)
    kept = own - 2

    def kernel(*given: Any) -> Any:
        limit, alive, *state = given[:own]
        around = given[own:]
        goes, count = alive is None or _true(alive), 0
        device = state[0].device if state else None
        rows: list[list[Tensor]] = []
        while goes and (limit is None or count < int(limit.reshape(()).item())):
            flag = torch.tensor(True, device=device)
            step = torch.tensor(count, device=device)
            made = body((step, flag, *state), around)
            goes, state = _true(made[0]), made[1 : 1 + kept]
            rows.append(made[1 + kept :])
            count += 1
        return (*state, *(torch.stack(column) for column in zip(*rows, strict=True)))

    return kernel


def _without_turns(node: Node, version: int) -> str | None:
    return "is of an operator set before 9" if version < 9 else None


@operator("Scan", irregular=True, refuse=_without_turns)
def _scan(node: Node, _version: int) -> Kernel:
    outer = captured(node)
    body, own = _Body(node.attribute("body"), outer), len(node.inputs)
    scanned = node.attribute("num_scan_inputs")
    kept = own - scanned
    made_count = len(node.outputs) - kept
    axes = node.attribute("scan_input_axes") or [0] * scanned
    turned = node.attribute("scan_input_directions") or [0] * scanned
    made_axes = node.attribute("scan_output_axes") or [0] * made_count
    made_turned = node.attribute("scan_output_directions") or [0] * made_count

    def kernel(*given: Any) -> Any:
        state, parts, around = list(given[:kept]), given[kept:own], given[own:]
        columns = [
            (t.flip(a) if back else t).unbind(a)
            for t, a, back in zip(parts, axes, turned, strict=True)
        ]
        rows: list[list[Tensor]] = []
        for step in zip(*columns, strict=True):
            made = body((*state, *step), around)
            state = made[:kept]
            rows.append(made[kept:])
        found = []
        for column, axis, back in zip(zip(*rows, strict=True), made_axes, made_turned, strict=True):
            joined = torch.stack(column, axis)
            found.append(joined.flip(axis) if back else joined)
        return (*state, *found)

    return kernel
