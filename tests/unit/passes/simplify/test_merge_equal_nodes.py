"""What looks the same and must not be merged; the rest is in tests/golden/merge-equal-nodes."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.passes.simplify.merge_equal_nodes import MergeEqualNodes
from graphopt.testing import context, graph

HEAD = '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>'


@pytest.mark.parametrize(
    "call",
    [
        "RandomNormalLike (x)",
        "RandomUniformLike <seed = 1.0> (x)",
        "Bernoulli (x)",
        "Dropout (x, half, yes)",
        "mine.Count (x)",
        "Identity (x)",
    ],
)
def test_what_may_differ_each_time_is_not_merged(call: str) -> None:
    model = ir.parse(f"""{HEAD} m (float[N, 4] x) => (float[N, 4] y)
    <float half = {{0.5}}, bool yes = {{1}}> {{
      a = {call}
      b = {call}
      y = Sub (a, b) }}""")
    assert not MergeEqualNodes().run(model, context()).modified


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Softmax <axis = 0> (x)", "Softmax <axis = 1> (x)"),
        ("Sub (x, z)", "Sub (z, x)"),
        ("Clip (x, low)", "Clip (x, '', low)"),
        ("Add (x, k)", "Add (x, l)"),
        ("Cast <to = 1> (x)", "Cast <to = 11> (x)"),
    ],
)
def test_attributes_operands_and_their_places_count(one: str, other: str) -> None:
    text = f"""m (float[N, 4] x, float[N, 4] z) => (float[A, B] p, float[C, D] q)
    <float low = {{0.0}}, float[1] k = {{0.0}}, float[1] l = {{-0.0}}> {{
      a = {one}
      b = {other.replace("'', ", ", ")}
      p = Neg (a)
      q = Neg (b) }}"""
    model = graph(text.replace("(x, , low)", '(x, "", low)'))
    result = MergeEqualNodes().run(model, context())
    assert not result.modified
    assert len(model.nodes()) == 4


def test_parts_that_one_leaves_out_are_kept() -> None:
    model = graph("""m (float[4] x) => (float[2] p, int64[2] q, float[2] r)
    <int64[1] k = {2}> {
      p, q = TopK (x, k)
      r, "" = TopK (x, k) }""")
    assert not MergeEqualNodes().run(model, context()).modified
