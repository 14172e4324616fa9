"""Models go down to older operator sets with the same outputs, or stay whole with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.passes.simplify.downgrade_opset import DowngradeOpset
from graphopt.passes.simplify.upgrade_opset import UpgradeOpset
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from graphopt.ir import Graph

_INTERFACE = "float[2, 6, 5] x) => (y)"


def _down(text: str, before: int, after: int) -> tuple[Graph, list[str]]:
    """Return the model for the older operator set, and its operators."""
    model = graph(text, opset=before)
    made = model.copy()
    result = DowngradeOpset(version=after).run(made, context())
    assert result.modified, result.notes
    assert made.opset == after
    ir.verify(made)
    assert_same_outputs(model, made, random_feeds(model, count=2), rtol=1e-5, atol=1e-6)
    return made, [n.op for n in made.nodes()]


@pytest.mark.parametrize(
    ("nodes", "constants", "after", "operators"),
    [
        ("y = ReduceMean <keepdims = 0> (x, k)", "int64[2] k = {-1, 1}", 17, ["ReduceMean"]),
        ("y = ReduceMax (x)", "", 12, ["ReduceMax"]),
        ("y = ReduceSum <noop_with_empty_axes = 1> (x)", "", 12, ["Identity"]),
        ("y = ReduceSum (x, k)", "int64[1] k = {-2}", 10, ["ReduceSum"]),
        ("y = Unsqueeze (x, k)", "int64[2] k = {-1, 0}", 10, ["Unsqueeze"]),
        ("a = Unsqueeze (x, k)  y = Squeeze (a)", "int64[1] k = {0}", 11, None),
        ("y, b = Split <axis = -2, num_outputs = 2> (x)", "", 17, ["Split"]),
        ("y, b = Split <axis = 2, num_outputs = 2> (x)", "", 12, ["Split"]),
        ("y = Softmax <axis = 1> (x)", "", 12, ["Transpose", "Softmax", "Transpose"]),
        ("y = LogSoftmax (x)", "", 11, ["LogSoftmax"]),
        ("y = Pad (x, p, , k)", "int64[2] p = {1, 2}, int64[1] k = {-2}", 17, ["Pad"]),
        ("y = Pad (x, p, v, k)",
         "int64[2] p = {1, 2}, int64[1] k = {-2}, float v = {2.0}", 10, ["Pad"]),
        ("y = Clip (x, lo)", "float lo = {-0.5}", 10, ["Clip"]),
        ("y = Slice (x, s, e, k)",
         "int64[1] s = {-4}, int64[1] e = {-1}, int64[1] k = {-2}", 9, ["Slice"]),
        ("s = Shape <start = 1> (x)  y = Cast <to = 1> (s)", "", 14, None),
        ("s = Shape <start = -2, end = -1> (x)  y = Cast <to = 1> (s)", "", 13, None),
        ("y = Dropout (x)", "", 11, ["Identity"]),
        ("y = Reshape <allowzero = 1> (x, k)", "int64[2] k = {12, 5}", 13, ["Reshape"]),
        ("y = CastLike (x, v)", "double[1] v = {1}", 14, ["Cast"]),
        ("y, i = TopK (x, k)", "int64[1] k = {2}", 9, ["TopK"]),
        ("c = Constant <value_float = 2.5> ()  y = Mul (x, c)", "", 11, ["Constant", "Mul"]),
        ("y = Gelu (x)", "", 17, None),
        ("y = Gelu <approximate = \"tanh\"> (x)", "", 12, None),
        ("y = HardSwish (x)", "", 13, None),
        ("y = Mish (x)", "", 12, None),
        ("y = LayerNormalization <axis = -1> (x, v, v)", "float[5] v = {1, 2, 3, 4, 5}", 16, None),
        ("y = GroupNormalization <num_groups = 3> (x, v, v)",
         "float[6] v = {1, 2, 3, 4, 5, 6}", 17, None),
        ("y = RMSNormalization <axis = -1> (x, v)", "float[5] v = {1, 2, 3, 4, 5}", 17, None),
        ("y = Swish (x)", "", 17, None),
        ("y = GreaterOrEqual (x, x)", "", 11, None),
        ("y = Resize <mode = \"linear\", axes = [2]> (x, , s)",
         "float[1] s = {2.0}", 17, ["Resize"]),
        ("y = BatchNormalization (x, v, v, v, v)", "float[6] v = {1, 2, 3, 4, 5, 6}", 13,
         ["BatchNormalization"]),
    ],
)  # fmt: skip
def test_operators_as_older_sets_have_them(
    nodes: str, constants: str, after: int, operators: list[str] | None
) -> None:
    stored = f"<{constants}>" if constants else ""
    _, found = _down(f"g ({_INTERFACE} {stored} {{ {nodes} }}", 24, after)
    assert operators is None or found == operators


def test_axes_that_follow_from_constants_are_constants() -> None:
    _, found = _down(
        """g (float[2, 6, 5] x) => (y) <int64 one = {1}> {
          s = Shape (x)  r = Size (s)  k = Sub (r, one)  z = Constant <value_ints = [0]> ()
          a = Unsqueeze (k, z)  y = ReduceMean (x, a) }""",
        20,
        17,
    )
    assert found[-1] == "ReduceMean"
    assert "Size" not in found


def test_a_copied_dimension_is_copied_either_way() -> None:
    text = """g (float[n, 6, 5] x) => (y) <int64[1] k = {3}, int64[1] l = {-1}> {
      s = Shape <start = 0, end = 1> (x)  t = Concat <axis = 0> (s, k, l)
      y = Reshape <allowzero = 1> (x, t) }"""
    made, _ = _down(text, 18, 13)
    assert made.nodes("Reshape")[0].attribute("allowzero") is None


def test_inner_graphs_go_down_too() -> None:
    made, _ = _down(
        """g (float[2, 6, 5] x, bool c) => (y) {
          y = If (c) <then_branch = a () => (p) { p = Softmax <axis = 0> (x) },
                      else_branch = b () => (q) { q = Gelu (x) }> }""",
        20,
        13,
    )
    assert {n.op for n in made.walk()} >= {"Softmax", "Erf"}


@pytest.mark.parametrize(
    ("nodes", "after", "named"),
    [
        ("y = Trilu (x)", 13, "Trilu"),
        ("y = Reshape <allowzero = 1> (x, k)", 13, "Reshape"),
        ("y = ReduceMean (x, k)", 17, "ReduceMean"),
        ("c = Cast <to = 7> (x)  y = Gather (x, c)", 10, "Gather"),
        ("b = Cast <to = 16> (x)  y = Relu (b)", 12, "bfloat16"),
        ("y = Pad <mode = \"wrap\"> (x, k)", 18, "Pad"),
        ("y = ArgMax <select_last_index = 1> (x)", 11, "select_last_index"),
    ],
)  # fmt: skip
def test_what_cannot_go_down_stays_with_a_reason(nodes: str, after: int, named: str) -> None:
    model = graph(f"g ({_INTERFACE.replace('x)', 'x, int64[K] k)')} {{ {nodes} }}", opset=20)
    before = ir.structural_hash(model)
    result = DowngradeOpset(version=after).run(model, context())
    assert not result.modified
    assert named in result.notes[0]
    assert ir.structural_hash(model) == before
    with pytest.raises(ModelError, match=named):
        DowngradeOpset(version=after, required=True).run(model, context())


def test_what_is_old_enough_is_left_alone() -> None:
    model = graph(f"g ({_INTERFACE} {{ y = Relu (x) }}", opset=13)
    assert not DowngradeOpset(version=13).run(model, context()).modified


def test_down_and_up_again() -> None:
    text = f"g ({_INTERFACE} <int64[1] k = {{1}}> {{ a = Softmax (x)  y = ReduceMean (a, k) }}"
    made, _ = _down(text, 18, 12)
    assert UpgradeOpset(minimum=18, to=18).run(made, context()).modified
    model = graph(text, opset=18)
    assert_same_outputs(model, made, random_feeds(model), rtol=1e-6, atol=1e-7)
