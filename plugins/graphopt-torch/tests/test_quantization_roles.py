"""Which constants may be trained, told by how they are used."""

from __future__ import annotations

import numpy as np
import pytest
from graphopt_torch.quantization.roles import trainable_floats

from graphopt.testing import graph


def test_layers_and_what_is_around_them() -> None:
    model = graph(
        """g (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)
        <float[1, 3, 1, 1] mean, float[4, 3, 3, 3] w, float[4] b, float[4] gamma, float[4] beta,
         float[4] m, float[4] v, float[4, 1, 1] slope, float[1, 4, 1, 1] gain, float[4, 4, 1, 1] w2,
         float six, float[1, 4, 1, 1] last>
        {
          centred = Sub(x, mean)
          c = Conv <pads = [1, 1, 1, 1]> (centred, w, b)
          n = BatchNormalization (c, gamma, beta, m, v)
          p = PRelu (n, slope)
          s = Div (p, six)
          g = Mul (s, gain)
          d = Conv (g, w2)
          y = Add (d, last)
        }""",
        m=np.zeros(4, np.float32),
        v=np.ones(4, np.float32),
        six=np.array(6, np.float32),
    )
    assert trainable_floats(model) == {
        "w": "weights", "b": "biases", "gamma": "norms", "beta": "norms", "slope": "norms",
        "gain": "norms", "w2": "weights", "last": "biases",
    }  # fmt: skip


def test_transformers_keep_masks_and_rotary_tables() -> None:
    turns = np.outer(np.arange(6), 1.0 / 10 ** np.arange(4)).astype(np.float32)
    model = graph(
        """g (int64[1, 6] ids) => (float[1, 6, 20] y)
        <float[20, 4] table, float[1, 6, 4] places, float[6, 4] cosines, float[4] scale,
         float[4, 4] w, float[6, 6] mask>
        {
          e = Gather (table, ids)
          h = Add (e, places)
          r = Mul (h, cosines)
          n = RMSNormalization (r, scale)
          q = MatMul (n, w)
          k = Transpose <perm = [0, 2, 1]> (q)
          a = MatMul (q, k)
          masked = Add (a, mask)
          s = Softmax (masked)
          o = MatMul (s, q)
          t = Transpose <perm = [1, 0]> (table)
          y = MatMul (o, t)
        }""",
        opset=23,
        cosines=np.cos(turns),
        mask=np.triu(np.full((6, 6), -np.inf, np.float32), 1),
    )
    assert trainable_floats(model) == {
        "table": "weights", "places": "weights", "scale": "norms", "w": "weights",
    }  # fmt: skip


@pytest.mark.parametrize("lowest", [-1e9, -np.inf, -65504.0])
def test_masks_of_any_depth_stay(lowest: float) -> None:
    model = graph(
        """g (float[1, 4, 4] x) => (float[1, 4, 4] y) <float[1, 4, 4] mask, float[4, 4] w>
        { a = MatMul (x, w) m = Add (a, mask) y = MatMul (m, w) }""",
        mask=np.triu(np.full((1, 4, 4), lowest, np.float32), 1),
    )
    assert trainable_floats(model) == {"w": "weights"}


def test_anchors_frequencies_and_designed_matrices_stay() -> None:
    model = graph(
        """g (float[1, 8, 4] x) => (float[1, 8, 4] y, float[1, 16, 8] z)
        <float[4, 4] w, float[1, 8, 4] anchors, float[4, 4] corners, float[1, 16, 1] rates>
        {
          a = MatMul (x, w)
          b = MatMul (a, corners)
          y = Add (b, anchors)
          flat = ReduceSum <keepdims = 1> (x)
          positions = Expand (flat, sizes)
          z = MatMul (rates, positions)
        }
        """.replace("float[1, 16, 1] rates>", "float[1, 16, 1] rates, int64[3] sizes = {1, 1, 8}>"),
        corners=np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], "f4"),
    )
    assert trainable_floats(model) == {"w": "weights"}


def test_a_constant_that_is_read_as_something_else_stays() -> None:
    model = graph(
        """g (float[1, 4] x) => (float[1, 4] y, float[4, 4] same) <float[4, 4] w>
        { y = MatMul (x, w) same = Tanh (w) }"""
    )
    assert trainable_floats(model) == {}
