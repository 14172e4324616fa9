"""What looks like a pattern and is not: operands and attributes that change its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.runtime import open_session
from graphopt.testing import context, graph, random_feeds
from tests.backend.exact import EXACT_PASSES, assert_equal_outputs

SHORTCUT = """m (float[1, 2, 4, 4] x{more}) => (float[A, B, C, D] y)
<int64[4] starts = {{0, 0, 0, 0}}, int64[4] ends = {{9, 9, 9, 9}}, int64[4] axes = {{0, 1, 2, 3}},
 int64[4] steps = {{1, 1, 2, 2}}, int64[8] widths = {{0, 1, 0, 0, 0, 1, 0, 0}},
 float value = {{{pad}}}> {{
  a = Slice (x, starts, ends, {operands})
  y = Pad (a, widths, value)
}}"""

MODELS = {
    "replace-strided-slice": (
        SHORTCUT.format(more="", pad="0.5", operands="axes, steps"),
        SHORTCUT.format(more=", int64[4] s", pad="0.0", operands="axes, s"),
        SHORTCUT.format(more=", int64[4] i", pad="0.0", operands="i, steps"),
    ),
    "convert-conv-to-matmul": (
        """m (float[1, 3, 1] x) => (float[1, 2, 1] y) <float[2, 3, 1] w, float[2] b> {
          y = Conv <pads = [1, 0], strides = [2]> (x, w, b) }""",
    ),
    "fuse-layer-norm": (
        """m (float[2, 4] x) => (float[A, B, C] y)
        <float eps = {0.001}, float[4] scale, float[4] shift, float[1, 1, 1] two = {2.0}> {
          m = ReduceMean <axes = [-1]> (x)
          d = Sub (x, m)
          p = Pow (d, two)
          v = ReduceMean <axes = [-1]> (p)
          e = Add (v, eps)
          r = Sqrt (e)
          n = Div (d, r)
          s = Mul (n, scale)
          y = Add (s, shift) }""",
    ),
    "fuse-rms-norm": tuple(
        f"""<ir_version: 10, opset_import: ["" : 23]>
        m (float[2, 4] x) => (float[A, B, C] y)
        <float[{eps}] eps = {{0.001}}, float[4] scale, float two = {{2.0}}, int64[1] last = {{-1}},
         float[{one}] one = {{1.0}}> {{
          p = Pow (x, two)
          v = ReduceMean (p, last)
          e = Add (v, eps)
          r = Sqrt (e)
          i = Div (one, r)
          n = Mul (x, i)
          y = Mul (n, scale) }}"""
        for eps, one in (("1, 1, 1", "1"), ("1", "1, 1, 1"))
    ),
    "fuse-conv-batchnorm": (
        """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        m (float[1, 2, 3, 3] x) => (float[1, 2, 3, 3] y)
        <float[2, 2, 1, 1] w, float[2] s, float[2] b, float[2] m, float[2] v = {1.0, 2.0}> {
          a = Conv (x, w)
          y = mine.BatchNormalization (a, s, b, m, v) }
        <domain: "mine", opset_import: ["" : 17]>
        BatchNormalization (a, s, b, m, v) => (r) { r = Abs (a) }""",
    ),
    "fuse-matmul-add": (
        """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        m (float[2, 3] x) => (float[2, 4] y) <float[3, 4] w, float[4] b = {1, 2, 3, 4}> {
          a = MatMul (x, w)
          y = mine.Add (a, b) }
        <domain: "mine", opset_import: ["" : 17]>
        Add (a, b) => (r) { r = Sub (a, b) }""",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in MODELS.items() for t in texts])
def test_it_stays_as_it_is(name: str, text: str) -> None:
    before = graph(text)
    after = before.copy()
    assert not EXACT_PASSES[name]().run(after, context()).modified
    assert ir.structural_hash(after) == ir.structural_hash(before)


def test_a_normalization_of_positions_stays() -> None:
    """BatchNormalization of opset 8 and older may hold numbers for every position."""
    before = graph(
        """<ir_version: 4, opset_import: ["" : 8]>
        m (float[1, 2, 1, 2] x) => (float[1, 2, 1, 2] y)
        <float[2, 2, 1, 1] w, float[2, 1, 2] s = {1, 2, 3, 4}, float[2, 1, 2] b = {1, 2, 3, 4},
         float[2, 1, 2] m = {1, 2, 3, 4}, float[2, 1, 2] v = {1, 2, 3, 4}> {
          a = Conv (x, w)
          y = BatchNormalization <spatial = 0> (a, s, b, m, v) }"""
    )
    assert not EXACT_PASSES["fuse-conv-batchnorm"]().run(before, context()).modified


def test_a_gather_beyond_the_end_is_left_to_the_runtime() -> None:
    before = graph(
        """m (float[2, 3] x) => (float[1, 3] y) <int64[1] i = {5}, int64[1] axis = {0}> {
          a = Gather <axis = 0> (x, i)
          b = Unsqueeze (a, axis)
          y = Squeeze (b, axis) }"""
    )
    EXACT_PASSES["merge-data-movement"]().run(before, context())
    assert before.nodes("Gather")


def test_a_constant_of_another_domain_is_no_constant() -> None:
    before = graph(
        """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
        m (float[2] x) => (float[2] y) {
          k = mine.Constant <value_floats = [1.0, 2.0]> ()
          y = Add (x, k) }
        <domain: "mine", opset_import: ["" : 17]>
        Constant <value_floats> () => (r) {
          a = Constant <value_floats: floats = @value_floats> ()
          r = Neg (a) }"""
    )
    feeds = random_feeds(before)
    wanted = open_session(before, optimize=False).run(feeds[0])
    assert not before.value("k").is_constant
    EXACT_PASSES["fold-constants"]().run(before, context())
    found = open_session(before, optimize=False).run(feeds[0])
    assert_equal_outputs(wanted, found, rtol=0.0, atol=0.0, who="fold-constants")
    assert not np.array_equal(wanted[0], feeds[0]["x"])


def test_an_empty_batch_is_still_reshaped() -> None:
    """Beside a copied size of 0, -1 would have no meaning; the computed shape has one."""
    before = graph(
        """m (float[N, T, 6] x) => (float[A, B, C] y)
        <int64[1] axis = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}> {
          s = Shape (x)
          n = Slice (s, axis, one)
          t = Slice (s, one, two)
          r = Mul (t, two)
          a = Concat <axis = 0> (n, r, three)
          y = Reshape (x, a) }"""
    )
    EXACT_PASSES["fold-shapes"]().run(before, context())
    session = open_session(before, optimize=False)
    for batch in (0, 2):
        assert session.run({"x": np.zeros((batch, 3, 6), np.float32)})[0].shape == (batch, 6, 3)
