"""Look-ups: rows that constants pick go with what they become, rows that data picks stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.testing import graph
from tests.unit.analysis.coupling.pruning import assert_oracle, coupled, prune_at_random

if TYPE_CHECKING:
    from graphopt import ir

CHAIN = """
g (float[2,3,4] x) => (float[2,2,N] y)
<float[6,3,1] first, float[2,{width},1] second, {constants}> {{
  a = Conv(x, first)
  {lines}
  y = Conv(b, second)
}}
"""


def chain(lines: str, constants: str = "float unused", width: int = 6, opset: int = 17) -> ir.Graph:
    return graph(CHAIN.format(lines=lines, constants=constants, width=width), opset=opset)


TABLE = """
g (int64[2,5] words) => (float[2,5,3] y)
<float[10,8] table, float[5,8] places, float[8,6] inner, float[6,8] outer, float[8,3] head> {
  a = Gather(table, words)
  b = Add(a, places)
  c = MatMul(b, inner)
  d = Gelu(c)
  e = MatMul(d, outer)
  f = Add(b, e)
  y = MatMul(f, head)
}
"""


def test_an_embedding_loses_columns_with_the_stream_behind_it() -> None:
    made = graph(TABLE, opset=20)
    found = assert_oracle(made)
    assert {group.size for group in found.groups} == {6, 8}
    stream = next(group for group in found.groups if group.size == 8)
    assert {p.weight.label for p in stream.producers} == {"`outer` axis 1", "`table` axis 1"}
    ((_, why),) = found.why(made.value("table"), 0)
    assert why == "which of them Gather `a` reads depends on the data"


def test_a_tied_table_is_one_weight() -> None:
    made = graph("""
    g (int64[2,5] words) => (float[2,5,10] y) <float[10,8] table> {
      a = Gather(table, words)
      b = Relu(a)
      t = Transpose<perm = [1, 0]>(table)
      y = MatMul(b, t)
    }
    """)
    _, found = coupled(made)
    if found.groups:  # once Transpose has its rule
        (group,) = assert_oracle(made).groups
        assert (group.name, group.size) == ("table", 8)


@pytest.mark.parametrize(
    ("lines", "width"),
    [
        ("b = Gather<axis = 1>(a, six)", 6),
        ("b = Gather<axis = -2>(a, six)", 6),
        ("b = Gather<axis = 1>(a, some)", 4),
        ("c = Gather<axis = 1>(a, pick)\n b = Add(a, c)", 6),
        ("b = Gather<axis = 2>(a, word)", 6),
        ("c = Gather<axis = 2>(a, last)\n b = Unsqueeze(c, word)", 6),
        ("b = Compress<axis = 1>(a, mask)", 3),
        ("b = Compress<axis = 1>(a, short)", 2),
        ("b = Compress<axis = 2>(a, short)", 6),
        ("b = GatherElements<axis = 2>(a, elements)", 6),
        (
            "c = Cast<to = 1>(elements)\n d = Add(a, c)\n"
            "b = ScatterElements<axis = 2>(a, elements, d)",
            6,
        ),
    ],
)
def test_constant_indices_are_renumbered(lines: str, width: int) -> None:
    zeros = ", ".join("0" for _ in range(48))
    constants = (
        "int64[6] six = {5, -2, 3, 0, 1, 2}, int64[4] some = {4, 4, 1, -6}, int64[1] pick = {2}, "
        "int64[1] word = {2}, int32 last = {-1}, bool[6] mask = {1, 0, 1, 0, 1, 0}, "
        f"bool[3] short = {{0, 1, 1}}, int64[2,6,4] elements = {{{zeros}}}"
    )
    made = chain(lines, constants, width)
    if "Compress<axis = 1>" in lines:
        made.value("b").shape = (2, width, 4)  # onnx does not infer it
    for seed in range(3):
        found = assert_oracle(made, seed=seed)
    assert all(group.is_exact for group in found.groups)


def test_an_index_that_is_read_alone_stays() -> None:
    made, found = coupled("""
    g (float[2,3,4] x) => (float[2,2,4] y, float[2,4] z)
    <float[6,3,1] first, float[2,6,1] second, int64 which = {3}> {
      a = Conv(x, first)
      z = Gather<axis = 1>(a, which)
      y = Conv(a, second)
    }
    """)
    (group,) = found.groups
    assert group.size == 5
    ((indices, why),) = found.why(made.value("a"), 1)
    assert indices.tolist() == [3]
    assert why == "Gather `z` reads this index of it"
    assert_oracle(made, fraction=0.6)
    pruned, _, cut, _ = prune_at_random(made, fraction=0.6)
    kept = cut.kept(made.value("a"), 1)
    assert kept is not None
    index = pruned.nodes("Gather")[0].inputs[1]
    assert index is not None
    assert kept[int(index.array())] == 3


def test_indices_that_two_nodes_share_are_not_changed_for_both() -> None:
    made = graph("""
    g (float[2,3,4] x) => (float[2,2,4] y, float[2,2,4] z)
    <float[6,3,1] first, float[6,3,1] other, float[2,6,1] second, float[2,6,1] third,
     int64[6] k = {5, 4, 3, 2, 1, 0}> {
      a = Conv(x, first)
      b = Gather<axis = 1>(a, k)
      y = Conv(b, second)
      c = Conv(x, other)
      d = Gather<axis = 1>(c, k)
      z = Conv(d, third)
    }
    """)
    found = assert_oracle(made, seed=1)
    assert {group.name for group in found.groups} == {"first", "other"}


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(-6, 5), min_size=1, max_size=8),
    st.floats(0.2, 0.9),
    st.integers(0, 1000),
)
def test_any_constant_indices(picked: list[int], fraction: float, seed: int) -> None:
    numbers = ", ".join(map(str, picked))
    made = graph(f"""
    g (float[1,3,4] x) => (float[1,2,4] y, float[1,2,4] z)
    <float[6,3,1] first, float[2,{len(picked)},1] second, float[2,6,1] third,
     int64[{len(picked)}] k = {{{numbers}}}> {{
      a = Conv(x, first)
      b = Gather<axis = 1>(a, k)
      y = Conv(b, second)
      z = Conv(a, third)
    }}
    """)
    _, found = coupled(made)
    if any(group.size > 1 for group in found.groups):
        assert_oracle(made, fraction=fraction, seed=seed)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("b = Gather<axis = 1>(a, t)", "which of them Gather `b` reads depends on the data"),
        ("c = Gather<axis = 1>(a, square)\n b = ReduceSum<keepdims = 0>(c, one)", "depends on"),
        ("b = GatherElements<axis = 1>(a, e)", "which of them `b` picks depends on the data"),
        ("b = ScatterElements<axis = 1>(a, e, x)", "picks depends on the data"),
        ("c = Compress(a, flags)\n b = Relu(a)", "runs all axes together"),
        ("c = Size(a)\n d = Cast<to = 1>(c)\n b = Mul(a, d)", "tells how many elements"),
        ("c = RandomNormalLike(a)\n b = Add(a, c)", "draws random numbers"),
    ],
)
def test_an_axis_that_data_searches_stays(lines: str, why: str) -> None:
    constants = (
        "int64[2,3,4] e, bool[8] flags = {1,0,1,0,1,0,1,0}, int64[6] six = {0,1,2,3,4,5},"
        "int64[2,3] square = {0,1,2,3,4,5}, int64[1] one = {1}"
    )
    text = CHAIN.format(lines=lines, constants=constants, width=6).replace(
        "(float[2,3,4] x)", "(float[2,3,4] x, int64[6] t)"
    )
    made = graph(text.replace("int64[2,3,4] e,", f"int64[2,3,4] e = {{{','.join('0' * 24)}}},"))
    _, found = coupled(made)
    reasons = [reason for _, reason in found.why(made.value("first"), 0)]
    assert any(why in reason for reason in reasons), reasons


def test_rows_of_several_axes() -> None:
    made = graph("""
    g (float[2,5,3] x, int64[4,2] at) => (float[4,2] y) <float[3,8] first, float[8,2] last> {
      a = MatMul(x, first)
      b = GatherND(a, at)
      y = MatMul(b, last)
    }
    """)
    (group,) = assert_oracle(made).groups
    assert group.size == 8
    made = graph("""
    g (float[2,5,3] x, int64[2,1] at) => (float[2,2] y) <float[3,8] first, float[8,2] last> {
      a = MatMul(x, first)
      b = GatherND<batch_dims = 1>(a, at)
      y = MatMul(b, last)
    }
    """)
    assert_oracle(made)


def test_rows_that_are_written_have_the_same_columns() -> None:
    made = graph("""
    g (float[5,3] x, int64[2,1] at, float[2,3] z) => (float[5,2] y)
    <float[3,8] first, float[3,8] other, float[8,2] last> {
      a = MatMul(x, first)
      b = MatMul(z, other)
      c = ScatterND(a, at, b)
      y = MatMul(c, last)
    }
    """)
    (group,) = assert_oracle(made).groups
    assert {p.weight.value.name for p in group.producers} == {"first", "other"}


def test_one_hot_keeps_its_places() -> None:
    made, found = coupled("""
    g (int64[2,5] x) => (float[2,5,3] y)
    <int64 depth = {8}, float[2] values = {0, 1}, float[8,3] last> {
      a = OneHot(x, depth, values)
      y = MatMul(a, last)
    }
    """)
    assert not found.groups
    assert "has a place there for each number" in str(found.why(made.value("a"), 2))


def test_indices_beyond_the_end_freeze() -> None:
    made = graph(
        CHAIN.format(
            lines="b = Gather<axis = 1>(a, k)", constants="int64[6] k = {0,1,2,3,4,6}", width=6
        )
    )
    _, found = coupled(made)
    assert not found.groups


def test_a_class_token_is_picked_from_a_stream() -> None:
    made = graph("""
    g (float[2,5,3] x) => (float[2,2] y) <float[3,8] first, float[8,2] last, int64 zero = {0}> {
      a = MatMul(x, first)
      b = Gather<axis = 1>(a, zero)
      y = MatMul(b, last)
    }
    """)
    (group,) = assert_oracle(made).groups
    assert group.size == 8
    assert np.all(group.cells == 0)
