"""Rotary embeddings of the two halves of a head: spellings, tables, and what is left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_attention import FuseAttention
from graphopt.passes.rewrite.fuse_rotary_embedding import FuseRotaryEmbedding
from graphopt.testing import assert_same_outputs, context, graph

_TOLERANCE = 1e-5

_HEADS = """x0 = Reshape (x, parts)
  h = Transpose <perm = [0, 2, 1, 3]> (x0)"""
_TABLES = """both = Concat <axis = -1> (angles, angles)
  c3 = Cos (both)
  s3 = Sin (both)
  cos = Unsqueeze (c3, one)
  sin = Unsqueeze (s3, one)"""
_HALVES = """left = Slice (h, zero, four, three, one)
  right = Slice (h, four, end, three, one)"""
_TURNED = """minus = Neg (right)
  turned = Concat <axis = -1> (minus, left)
  a = Mul (h, cos)
  b = Mul (turned, sin)
  y = Add (a, b)"""


def _model(
    *,
    angles: str = "float[N, T, 4] angles",
    heads: str = _HEADS,
    tables: str = _TABLES,
    halves: str = _HALVES,
    turned: str = _TURNED,
    output: str = "float[N, 3, T, 8] y",
    constants: str = "",
) -> ir.Graph:
    body = "\n  ".join((heads, tables, halves, turned))
    return graph(f"""m (float[N, T, 24] x, {angles}) => ({output})
<int64[4] parts = {{0, 0, 3, 8}}, int64[1] zero = {{0}}, int64[1] one = {{1}},
 int64[1] three = {{3}}, int64[1] four = {{4}}, int64[1] end = {{9223372036854775807}},
 int64[1] eight = {{8}}, int64[1] two = {{2}}{constants}> {{
  {body}
}}""")


def _feed(angles: tuple[int, ...] = (2, 5, 4)) -> dict[str, Any]:
    random = np.random.default_rng(0)
    sizes = {"x": (2, 5, 24), "angles": angles}
    return {n: random.standard_normal(s).astype(np.float32) for n, s in sizes.items()}


def _fused(before: ir.Graph, **feed: Any) -> ir.Graph:
    after = before.copy()
    assert FuseRotaryEmbedding().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    assert len(after.nodes("RotaryEmbedding")) == 1
    assert not after.nodes("Neg")
    assert_same_outputs(before, after, [_feed(**feed)], rtol=_TOLERANCE, atol=_TOLERANCE)
    return after


def test_half_of_a_computed_table_is_computed() -> None:
    after = _fused(_model())
    assert sorted(n.op for n in after.nodes()) == [
        "Cos", "Reshape", "RotaryEmbedding", "Sin", "Transpose"
    ]  # fmt: skip


def test_one_table_for_the_whole_batch_is_stretched() -> None:
    _fused(_model(angles="float[1, T, 4] angles"), angles=(1, 5, 4))


@pytest.mark.parametrize(
    "spelling",
    [
        {"halves": "left, right = Split <axis = -1, num_outputs = 2> (h)"},
        {"halves": _HALVES, "turned": _TURNED.replace("(h, cos)", "(cos, h)")},
        {"turned": _TURNED.replace("Add (a, b)", "Add (b, a)")},
        {"turned": _TURNED.replace("(turned, sin)", "(sin, turned)")},
        {"halves": _HALVES.replace("three", "last"), "constants": ", int64[1] last = {-1}"},
        {
            "tables": _TABLES.replace("cos = Unsq", "c4 = Mul (c3, gain)\n  cos = Unsq").replace(
                "(c3, one)", "(c4, one)"
            ),
            "constants": ", float gain = {1.25}",
        },
    ],
)
def test_spellings(spelling: dict[str, str]) -> None:
    if "Split" in spelling.get("halves", ""):
        spelling = {"halves": "left, right = Split <axis = -1> (h, fours)",
                    "constants": ", int64[2] fours = {4, 4}"}  # fmt: skip
    _fused(_model(**spelling))  # type: ignore[arg-type]


def test_rotation_before_heads_are_outside() -> None:
    before = _model(
        heads="h = Reshape (x, parts)",
        tables=_TABLES.replace("(c3, one)", "(c3, two)").replace("(s3, one)", "(s3, two)"),
        output="float[N, T, 3, 8] y",
    )
    after = _fused(before)
    assert not after.nodes("Transpose")


def test_the_rest_of_a_head_is_not_rotated() -> None:
    before = _model(
        heads=f"{_HEADS.replace('h =', 'whole =')}\n  h = Slice (whole, zero, four, three, one)\n"
        "  rest = Slice (whole, four, end, three, one)",
        angles="float[N, T, 2] angles",
        halves="left = Slice (h, zero, two, three, one)\n  right = Slice (h, two, end, three, one)",
        turned=_TURNED.replace("y = Add", "front = Add")
        + "\n  y = Concat <axis = -1> (front, rest)",
    )
    after = _fused(before, angles=(2, 5, 2))
    (node,) = after.nodes("RotaryEmbedding")
    assert node.attribute("rotary_embedding_dim") == 4
    assert not after.nodes("Slice", "Concat")


@pytest.mark.parametrize("shape", ["1, 1, 5, 8", "1, 5, 8", "5, 8"])
def test_constant_tables(shape: str) -> None:
    random = np.random.default_rng(1)
    half = random.standard_normal((5, 4))
    numbers = ", ".join(f"{n:.6f}" for n in np.concatenate([half, half], 1).reshape(-1))
    before = _model(
        angles="float[N, T, 1] angles",
        heads=_HEADS.replace("x0 = Reshape (x, parts)", "x0 = Reshape (x, five)"),
        constants=f", int64[4] five = {{2, 5, 3, 8}}, float[{shape}] cos = {{{numbers}}}, "
        f"float[{shape}] sin = {{{numbers}}}",
        tables="",
        output="float[2, 3, 5, 8] y",
    )
    _fused(before, angles=(2, 5, 1))


REFUSED = {
    "halves of a table that differ": {
        "tables": _TABLES.replace("(angles, angles)", "(angles, others)").replace(
            "both", "others = Neg (angles)\n  both", 1
        )
    },
    "no minus": {"turned": _TURNED.replace("Neg (right)", "Abs (right)")},
    "the other half turned": {
        "turned": _TURNED.replace("Neg (right)", "Neg (left)").replace(
            "minus, left", "minus, right"
        )
    },
    "a difference": {"turned": _TURNED.replace("Add (a, b)", "Sub (a, b)")},
    "another tensor turned": {
        "halves": "g = Abs (h)\n  left = Slice (g, zero, four, three, one)\n"
        "  right = Slice (g, four, end, three, one)"
    },
    "a table for each head": {
        "tables": _TABLES.replace("Unsqueeze (c3, one)", "Identity (c3)").replace(
            "Unsqueeze (s3, one)", "Identity (s3)"
        ),
        "angles": "float[N, 3, T, 4] angles",
    },
}


@pytest.mark.parametrize("spelling", REFUSED.values(), ids=REFUSED)
def test_what_is_no_rotation_is_left_alone(spelling: dict[str, str]) -> None:
    model = _model(**spelling)  # type: ignore[arg-type]
    assert not FuseRotaryEmbedding().run(model, context()).modified
    assert model.opset == 17


def test_attention_takes_the_rotated_rows() -> None:
    rotated = _TURNED.replace("y = Add", "q1 = Add")
    before = _model(
        turned=rotated + "\n  k1 = Transpose <perm = [0, 1, 3, 2]> (q1)\n"
        "  scores = MatMul (q1, k1)\n  weights = Softmax (scores)\n"
        "  mixed = MatMul (weights, h)\n  back = Transpose <perm = [0, 2, 1, 3]> (mixed)\n"
        "  y = Reshape (back, flat)",
        constants=", int64[3] flat = {0, 0, 24}",
        output="float[N, T, 24] y",
    )
    after = before.copy()
    assert FuseRotaryEmbedding().run(after, context()).modified
    assert FuseAttention().run(after, context()).modified
    assert sorted(n.op for n in after.nodes()) == ["Attention", "Cos", "RotaryEmbedding", "Sin"]
    assert_same_outputs(before, after, [_feed()], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_other_runtimes_keep_what_they_have() -> None:
    model = _model()
    assert not FuseRotaryEmbedding().run(model, context(target="cortex-m4")).modified
