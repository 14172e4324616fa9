"""Chains of operators that move data, on random shapes: the same outputs, and fewer operators."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.passes.simplify.eliminate_identity import EliminateIdentity
from graphopt.passes.simplify.join_casts import JoinCasts
from graphopt.passes.simplify.join_pads import JoinPads
from graphopt.passes.simplify.join_reshapes import JoinReshapes
from graphopt.passes.simplify.join_slices import JoinSlices
from graphopt.passes.simplify.join_transposes import JoinTransposes
from graphopt.runtime import open_session
from graphopt.testing import context, graph
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.ir import Graph
    from graphopt.passes.base import Pass


def check(before: Graph, step: Pass, sizes: Sequence[int] = (1, 3)) -> Graph:
    """Run the pass, twice, and compare bit for bit on values that are all different."""
    after = before.copy()
    step.run(after, context())
    after.sort()
    ir.verify(after)
    assert not step.run(after, context()).modified
    sessions = [open_session(g, optimize=False) for g in (before, after)]
    for size in sizes:
        feed = {}
        for value in before.feeds:
            shape = [d if isinstance(d, int) else size for d in value.shape or ()]
            count = math.prod(shape)
            kind = np.dtype((value.dtype or DType.FLOAT).numpy_name)
            feed[value.name] = np.arange(count).reshape(shape).astype(kind)
        one, other = (s.run(feed) for s in sessions)
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    return after


def constant(name: str, values: Sequence[int]) -> str:
    return f"int64[{len(values)}] {name} = {{{', '.join(map(str, values))}}}"


ends = st.one_of(st.integers(-7, 7), st.sampled_from([2**63 - 1, -(2**63), 2**31 - 1]))
cuts = st.tuples(st.integers(-7, 7), ends, st.sampled_from([1, 1, 2, 3, -1, -2]), st.integers(0, 1))


@given(first=cuts, second=cuts, open_axis=st.booleans())
@settings(max_examples=100, deadline=None)
def test_two_slices_are_one_or_stay_two(
    first: tuple[int, int, int, int], second: tuple[int, int, int, int], open_axis: bool
) -> None:
    named = zip("st", (first, second), strict=True)
    values = ", ".join(constant(f"{n}{i}", [c[i]]) for n, c in named for i in range(4))
    text = f"""m (float[{"N" if open_axis else 5}, 6] x) => (float[A, B] y) <{values}> {{
      a = Slice (x, s0, s1, s3, s2)
      y = Slice (a, t0, t1, t3, t2) }}"""
    after = check(graph(text), JoinSlices(), sizes=(1, 4, 6))
    if first[3] != second[3]:
        assert len(after.nodes()) == 1


shapes = st.sampled_from(
    [(2, 12), (24,), (4, 6), (0, 12), (0, -1), (-1,), (-1, 12), (3, 8), (0, 3, -1), (2, 3, 4),
     (-1, 0), (2, 0, 4), (1, -1, 12), (0, 0, 4)]
)  # fmt: skip


@given(first=shapes, second=shapes, source=st.sampled_from([(2, 3, 4), (2, 12), ("N", 3, 4)]))
@settings(max_examples=150, deadline=None)
def test_two_reshapes_are_one_or_stay_two(
    first: tuple[int, ...], second: tuple[int, ...], source: tuple[int | str, ...]
) -> None:
    outputs = ", ".join("ABCD"[: len(second)])
    text = f"""m (float[{", ".join(map(str, source))}] x) => (float[{outputs}] y)
    <{constant("s", first)}, {constant("t", second)}> {{
      a = Reshape (x, s)
      y = Reshape (a, t) }}"""
    before = graph(text)
    feed = {"x": np.zeros([d if isinstance(d, int) else 2 for d in source], np.float32)}
    try:
        open_session(before, optimize=False).run(feed)
    except Exception:
        assume(False)
    check(before, JoinReshapes(), sizes=(2,))


axes = st.lists(st.integers(-4, 3), min_size=1, max_size=2, unique=True)


@given(one=axes, other=axes, undone=st.booleans(), rank=st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_axes_that_come_and_go(one: list[int], other: list[int], undone: bool, rank: int) -> None:
    wide = rank + len(one)
    one = sorted({a % wide for a in one})
    assume(len(one) == wide - rank)
    if undone:
        assume(all(-wide <= a < wide and a % wide in one for a in other))
        assume(len({a % wide for a in other}) == len(other))
        last, made = "Squeeze", wide - len(other)
    else:
        last, made = "Unsqueeze", wide + len(other)
        assume(all(-made <= a < made for a in other))
        assume(len({a % made for a in other}) == len(other))
    outputs = ", ".join("ABCDEF"[:made])
    text = f"""m (float[{", ".join("N5"[:rank])}] x) => (float[{outputs}] y)
    <{constant("s", one)}, {constant("t", other)}> {{
      z = Relu (x)
      a = Unsqueeze (z, s)
      b = {last} (a, t)
      y = Neg (b) }}"""
    after = check(graph(text), JoinReshapes(), sizes=(0, 1, 3))
    assert len(after.nodes()) <= 3


orders = st.permutations(range(3))


@given(first=orders, second=orders, third=orders, between=st.booleans(), shared=st.booleans())
@settings(max_examples=60, deadline=None)
def test_transposes_compose(
    first: list[int], second: list[int], third: list[int], between: bool, shared: bool
) -> None:
    text = f"""m (float[N, 3, 4] x) => (float[A, B, C] y{", float[D, E, F] z" * shared})
    <float half = {{0.5}}> {{
      a = Transpose <perm = {first}> (x)
      b = {"Mul (half, a)" if between else "Identity (a)"}
      c = Transpose <perm = {second}> (b)
      d = Transpose <perm = {third}> (c)
      y = Abs (d)
      {"z = Neg (a)" if shared else ""} }}"""
    after = check(graph(text), JoinTransposes())
    assert len(after.nodes("Transpose")) <= (3 if shared else 1)


@given(one=st.lists(st.integers(0, 2), min_size=4, max_size=4),
       other=st.lists(st.integers(-1, 2), min_size=4, max_size=4),
       values=st.sampled_from([("", ""), ("", ", zero"), (", one", ", one"), (", zero", ", one")]),
       modes=st.sampled_from([("constant",) * 2, ("edge",) * 2, ("edge", "constant")]))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_two_pads_are_one_or_stay_two(
    one: list[int], other: list[int], values: tuple[str, str], modes: tuple[str, str]
) -> None:
    assume(min(other) >= 0 or modes[1] == "constant")  # nothing may be left to repeat
    text = f"""m (float[N, 3] x) => (float[A, B] y)
    <{constant("p", one)}, {constant("q", other)}, float zero = {{0.0}}, float one = {{1.0}}> {{
      a = Pad <mode = "{modes[0]}"> (x, p{values[0]})
      y = Pad <mode = "{modes[1]}"> (a, q{values[1]}) }}"""
    after = check(graph(text), JoinPads(), sizes=(2,))
    joins = values[0] != ", zero" and set(modes) == {"constant"} and min(other) >= 0
    assert len(after.nodes()) == (1 if joins else 2)


TYPES = {"float": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
         "double": 11, "uint32": 12}  # fmt: skip
EXTREMES = [0.0, 1.0, -1.0, 2.5, 255.0, 1e3, 16777217.0, 3e9, -3e9, 65519.0, 1e-8]


@pytest.mark.parametrize("source", TYPES)
def test_a_type_between_is_left_out_only_where_it_holds_every_value(source: str) -> None:
    kind = {"float": "float32", "double": "float64"}.get(source, source)
    with np.errstate(all="ignore"):
        values = np.array(EXTREMES).astype(kind)
    for between in TYPES.values():
        for last in TYPES.values():
            text = f"""m ({source}[N] x) => (float[N] y) {{
              a = Cast <to = {between}> (x)
              b = Cast <to = {last}> (a)
              y = Cast <to = 1> (b) }}"""
            before = graph(text)
            after = before.copy()
            if not JoinCasts().run(after, context()).modified:
                continue
            one, other = (
                open_session(g, optimize=False).run({"x": values})[0] for g in (before, after)
            )
            np.testing.assert_array_equal(one, other, err_msg=f"{source} {between} {last}")


@given(target=st.sampled_from([(0, 4), (-1, 4), (1, 4), (4, 1), (1,), (4,), (3, 4), (1, 1, 4)]),
       shape=st.sampled_from(["N, 4", "1, 4", "3, 4", "N, M"]),
       op=st.sampled_from(["Reshape", "Expand", "Tile"]))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_what_keeps_the_shape_is_bypassed_and_nothing_else(
    target: tuple[int, ...], shape: str, op: str
) -> None:
    assume(op != "Expand" or min(target) > 0)
    assume(op != "Tile" or (len(target) == 2 and min(target) > 0))
    rank = max(len(target), 2) if op == "Expand" else len(target)
    rank = 2 if op == "Tile" else rank
    text = f"""m (float[{shape}] x) => (float[{", ".join("ABC"[:rank])}] y)
    <{constant("t", target)}> {{
      a = Relu (x)
      b = {op} (a, t)
      y = Neg (b) }}"""
    before = graph(text)
    for size in (1, 4):
        feed = {"x": np.zeros([int(d) if d.isdigit() else size for d in shape.split(", ")])}
        try:
            open_session(before, optimize=False).run({"x": feed["x"].astype(np.float32)})
        except Exception:
            assume(False)
    check(before, EliminateIdentity(), sizes=(1, 4))
