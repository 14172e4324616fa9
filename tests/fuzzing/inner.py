"""Graphs inside graphs: branches and loops whose bodies are made of steps themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto
from onnx import helper as h

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from tests.fuzzing.builder import Builder, Item
    from tests.fuzzing.steps import Step

_DEEPEST = 3


def _depth(b: Builder) -> int:
    return 0 if b.outer is None else 1 + _depth(b.outer)


def _worked(b: Builder, x: Item, steps: Sequence[Step]) -> str:
    """Take some steps and add what comes of them, as one number, to ``x``."""
    b.items.append(x)
    for _ in range(b.number(0, 3)):
        b.attempt(b.pick(steps))
    made = b.items[-1]
    if made.name == x.name or made.rank == 0:
        return b.call(b.pick(["Identity", "Abs", "Neg"]), [x.name])
    mean = b.call("ReduceMean", [made.name], keepdims=0)
    return b.call("Add", [x.name, b.call("Tanh", [mean])])


def _graph(
    b: Builder, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[tuple[str, int]]
) -> onnx.GraphProto:
    kinds = [TensorProto.FLOAT if rank >= 0 else TensorProto.BOOL for _, rank in outputs]
    infos = [
        h.make_tensor_value_info(n, kind, [None] * max(rank, 0))
        for (n, rank), kind in zip(outputs, kinds, strict=True)
    ]
    return h.make_graph(b.nodes, name, inputs, infos, b.constants)


def branches(steps: Sequence[Step]) -> Step:
    """Return a step that chooses between two graphs, by a constant or by what is computed."""

    def choose_graph(b: Builder) -> None:
        x = b.item()
        if x is None or _depth(b) >= _DEEPEST:
            return
        if b.flag():
            test = b.constant(np.array(b.flag()))
        else:
            total = b.call("ReduceMax", [b.root.inputs[0].name], keepdims=0)
            test = b.call("Greater", [total, b.filled(b.pick([-100.0, 100.0]))])
        graphs = {}
        for key in ("then_branch", "else_branch"):
            body = b.inner()
            made = _worked(body, x, steps)
            graphs[key] = _graph(body, key, [], [(made, x.rank)])
        b.keep(b.call("If", [test], **graphs), x.shape)

    return choose_graph


def loop(steps: Sequence[Step]) -> Step:
    """Return a step that runs a graph none to three times, and may stack what each run made."""

    def repeat_graph(b: Builder) -> None:
        x = b.item()
        if x is None or _depth(b) >= _DEEPEST:
            return
        times, stacked = b.number(0, 3), b.flag() and x.rank < 4 and "N" not in x.shape
        body = b.inner()
        count, going, carried = (b.name() for _ in range(3))
        inputs = [
            h.make_tensor_value_info(count, TensorProto.INT64, []),
            h.make_tensor_value_info(going, TensorProto.BOOL, []),
            h.make_tensor_value_info(carried, TensorProto.FLOAT, [None] * x.rank),
        ]
        made = _worked(body, type(x)(carried, x.shape), steps)
        kept = body.call("Identity", [going])
        outputs = [(kept, -1), (made, x.rank)]
        if stacked:
            outputs.append((body.call("Neg", [made]), x.rank))
        graph = _graph(body, "body", inputs, outputs)
        limit = b.integers(times, scalar=True)
        names = b.calls("Loop", [limit, b.constant(np.array(True)), x.name], 1 + stacked,
                        body=graph)  # fmt: skip
        b.keep(names[0], x.shape)
        if stacked and times:
            b.keep(names[1], (times, *x.shape))

    return repeat_graph


def scan(b: Builder) -> None:
    """Add up the rows of a value, and return every sum."""
    x = b.item(least=2)
    if x is None or "N" in x.shape or _depth(b):
        return
    total, row, after, out = (b.name() for _ in range(4))
    rest = [int(d) for d in x.shape[1:]]
    infos = [h.make_tensor_value_info(n, TensorProto.FLOAT, rest) for n in (total, row, after, out)]
    nodes = [
        h.make_node("Add", [total, row], [after]),
        h.make_node(b.pick(["Identity", "Relu"]), [after], [out]),
    ]
    graph = h.make_graph(nodes, "rows", infos[:2], infos[2:])
    start = b.call("ReduceMin", [x.name], axes=[0], keepdims=0)
    names = b.calls("Scan", [start, x.name], 2, body=graph, num_scan_inputs=1)
    b.keep(names[0], tuple(rest))
    b.keep(names[1], x.shape)
