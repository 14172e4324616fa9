"""If, Loop and Scan: inner graphs are inferred with what is known around them.

A length that a branch or a body made up means nothing outside, and what a loop changes from one
round to the next is known inside it only as far as every round keeps it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.ir.bindings import symbols_of
from graphopt.ir.dims import Expr
from graphopt.ir.inference.fact import Fact, numbers
from graphopt.ir.inference.unknown import fresh
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from graphopt.ir.dims import Dim
    from graphopt.ir.graph import Graph
    from graphopt.ir.inference.engine import Inference
    from graphopt.ir.inference.fact import Dims
    from graphopt.ir.inference.fallback import Answer
    from graphopt.ir.node import Node, Value

    Body = Callable[[Inference, Node, str], list[Answer] | None]

_ROUNDS = 4
"""Dimensions that have not settled after so many rounds are taken to change."""
_SCAN_WITHOUT_BATCH = 9
_UNKNOWN: Answer = (None, None, None)


def _outside(dims: Dims | None, path: str) -> list[Dim | None] | None:
    """Return the dimensions with those left out that mean something only inside ``path``."""
    if dims is None:
        return None
    inner = (f"?{path}", f"~{path}")
    return [
        None if isinstance(d, Expr) and any(s.startswith(inner) for s in symbols_of(d)) else d
        for d in dims
    ]


def _path(path: str, node: Node, name: str) -> str:
    return f"{path}{node.outputs[0].name if node.outputs else node.name}/{name}/"


def _branches(inference: Inference, node: Node, path: str) -> list[Answer] | None:
    found: dict[str, list[Answer]] = {}
    for name in ("then_branch", "else_branch"):
        graph = node.attribute(name)
        inner = _path(path, node, name)
        inference.walk(graph, inner)
        facts = [inference.fact(v) for v in graph.outputs]
        found[name] = [(f.dtype, _outside(f.dims, inner), f.proto) for f in facts]
    test = numbers(inference.fact(node.inputs[0]).elements)
    if test:
        return found["then_branch" if test[0] else "else_branch"]
    pairs = zip(found["then_branch"], found["else_branch"], strict=False)
    return [_either(one, other) for one, other in pairs]


def _either(one: Answer, other: Answer) -> Answer:
    dtype = one[0] if one[0] is not None else other[0]
    proto = one[2] if one[2] == other[2] else None
    if one[1] is None or other[1] is None or len(one[1]) != len(other[1]):
        return dtype, None, proto
    pairs = zip(one[1], other[1], strict=True)
    return dtype, [a if a == b else None for a, b in pairs], proto


def _settled(
    inference: Inference,
    body: Graph,
    states: Sequence[Value],
    initial: Sequence[Fact],
    results: slice,
    path: str,
) -> None:
    """Find dimensions of the states that every round keeps, and infer the body with them."""
    held: list[Dims | None] = [f.dims for f in initial]
    for attempt in range(_ROUNDS + 1):
        if attempt == _ROUNDS:
            held = [None] * len(held)
        for value, fact, dims in zip(states, initial, held, strict=True):
            label = f"{path}{value.name}"
            inference.assume(value, Fact(fact.dtype, dims, proto=fact.proto, label=label))
        inference.walk(body, path)
        after = [inference.fact(v).dims for v in body.outputs[results]]
        made = [
            _kept(f"{path}{v.name}", a, b) for v, a, b in zip(states, held, after, strict=False)
        ]
        if made == held:
            return
        held = made


def _kept(label: str, before: Dims | None, after: Dims | None) -> Dims | None:
    if before is None or after is None or len(before) != len(after):
        return None
    pairs = enumerate(zip(before, after, strict=True))
    return tuple(a if a == b else fresh(label, i) for i, (a, b) in pairs)


def _loop(inference: Inference, node: Node, path: str) -> list[Answer] | None:
    body: Graph = node.attribute("body")
    inner = _path(path, node, "body")
    initial = [inference.fact(v) for v in node.inputs[2:]]
    round_, going, *states = body.inputs
    if len(states) != len(initial):
        return None
    inference.assume(round_, Fact(DType.INT64, (), label=f"{inner}{round_.name}"))
    inference.assume(going, Fact(DType.BOOL, (), label=f"{inner}{going.name}"))
    _settled(inference, body, states, initial, slice(1, 1 + len(states)), inner)
    carried = _carried(inference, states, initial, inner)
    stacked = [inference.fact(v) for v in body.outputs[1 + len(states) :]]
    return carried + [_stacked(f, [None], inner) for f in stacked]


def _carried(
    inference: Inference, states: Sequence[Value], initial: Sequence[Fact], inner: str
) -> list[Answer]:
    facts = [inference.fact(v) for v in states]
    # Without any round the result is the initial state, which the body never saw.
    return [
        (f.dtype if f.dtype is not None else start.dtype, _outside(f.dims, inner), f.proto)
        for f, start in zip(facts, initial, strict=True)
    ]


def _stacked(fact: Fact, rounds: list[Dim | None], inner: str) -> Answer:
    """Return the results of all rounds one after the other.

    Of symbols in them nothing is said: without any round the runtime makes those axes empty.
    """
    dims = _outside(fact.dims, inner)
    if dims is None or fact.proto is not None:
        return fact.dtype, None, None
    return fact.dtype, [*rounds, *(d if isinstance(d, int) else None for d in dims)], None


def _scan(inference: Inference, node: Node, path: str) -> list[Answer] | None:
    if inference.graph.opset < _SCAN_WITHOUT_BATCH:
        return None
    body: Graph = node.attribute("body")
    inner = _path(path, node, "body")
    count = len(node.inputs) - int(node.attribute("num_scan_inputs"))
    initial = [inference.fact(v) for v in node.inputs[:count]]
    states, parts = body.inputs[:count], body.inputs[count:]
    axes = node.attribute("scan_input_axes") or [0] * len(parts)
    rounds: Dim | None = None
    for value, given, axis in zip(parts, node.inputs[count:], axes, strict=True):
        fact = inference.fact(given)
        dims = fact.dims
        if dims:
            rounds = dims[axis] if rounds is None or isinstance(dims[axis], int) else rounds
            axis %= len(dims)
            dims = (*dims[:axis], *dims[axis + 1 :])
        inference.assume(value, Fact(fact.dtype, dims, label=f"{inner}{value.name}"))
    _settled(inference, body, states, initial, slice(0, count), inner)
    carried = _carried(inference, states, initial, inner)
    stacked = [inference.fact(v) for v in body.outputs[count:]]
    places = node.attribute("scan_output_axes") or [0] * len(stacked)
    return carried + [
        _placed(_stacked(f, [rounds], inner), axis) for f, axis in zip(stacked, places, strict=True)
    ]


def _placed(answer: Answer, axis: int) -> Answer:
    """Move the axis of the rounds, which is the first, to its place."""
    dtype, dims, proto = answer
    if dims is None:
        return answer
    rest = list(dims[1:])
    rest.insert(axis % len(dims), dims[0])
    return dtype, rest, proto


BODIES: Mapping[str, Body] = {"If": _branches, "Loop": _loop, "Scan": _scan}
