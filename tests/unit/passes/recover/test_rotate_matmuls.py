"""A rotated residual stream: the same function, and no channel that stands out."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.passes.recover.layers.peaks import channel_peaks
from graphopt.passes.recover.rotate_matmuls import RotateMatmuls, hadamard
from graphopt.testing import assert_same_outputs, context, graph

SPELLED_OUT = """
  sq = Pow(e, two)  ms = ReduceMean<axes=[-1]>(sq)  me = Add(ms, eps)  rt = Sqrt(me)
  inv = Div(one, rt)  n = Mul(e, inv)  h = Mul(n, gain)"""


def model_of(norm: str = SPELLED_OUT, tail: str = "", more: str = ""):
    table = np.random.default_rng(0).standard_normal((11, 12)).astype(np.float32)
    table[:, 3] *= 500
    return graph(
        f"""g (int64[1, 5] ids) => (float[1, 5, 7] y{more})
        <float[11, 12] table, float[12] gain, float[12, 6] w1, float[6, 12] w2, float[12] b2,
        float[12] gain2, float[12, 7] w3,
        float two = {{2}}, float eps = {{1e-5}}, float one = {{1}}>
        {{ e = Gather(table, ids) {norm}
        m = MatMul(h, w1)  r = Relu(m)  o = MatMul(r, w2)  ob = Add(o, b2)  s = Add(e, ob)
        p = Pow(s, two)  q = ReduceMean<axes=[-1]>(p)  qe = Add(q, eps)  qr = Sqrt(qe)
        qi = Div(one, qr)  sn = Mul(s, qi)  sg = Mul(sn, gain2)  y = MatMul(sg, w3) {tail} }}""",
        table=table,
    )


FEEDS = [{"ids": np.array([[0, 3, 5, 7, 10]])}, {"ids": np.array([[1, 1, 2, 9, 4]])}]


def test_the_function_stays_and_the_outlier_goes() -> None:
    model = model_of()
    before = model.copy()
    result = RotateMatmuls().run(model, context())
    assert result.metrics == {"streams": 1}
    assert_same_outputs(before, model, FEEDS, rtol=1e-3, atol=1e-3)
    one, other = (
        channel_peaks(m, context(data=FEEDS, model=m), {"s": -1})["s"].peak for m in (before, model)
    )
    assert one.max() / np.median(one) > 10
    assert other.max() / np.median(other) < 5


@pytest.mark.parametrize(
    ("tail", "more"),
    [
        ("z = Abs(s)", ", float[1, 5, 12] z"),
        ("z = Identity(sn)", ", float[1, 5, 12] z"),
        ("z = Mul(table, table)", ", float[11, 12] z"),
    ],
)
def test_what_reads_the_stream_as_it_is_forbids_it(tail: str, more: str) -> None:
    model = model_of(tail=tail, more=more)
    ctx = context()
    assert not RotateMatmuls().run(model, ctx).modified
    assert any("not rotated" in reason for reason in ctx.reasons.values())


def test_a_normalization_that_subtracts_the_mean_forbids_it() -> None:
    model = graph(
        """g (int64[1, 5] ids) => (float[1, 5, 7] y)
        <float[11, 12] table, float[12] gain, float[12] shift, float[12, 7] w>
        { e = Gather(table, ids)  n = LayerNormalization(e, gain, shift)  y = MatMul(n, w) }"""
    )
    assert not RotateMatmuls().run(model, context()).modified


def test_two_embeddings_of_one_stream_are_rotated_once() -> None:
    model = graph(
        """g (int64[1, 5] ids, int64[1, 5] places) => (float[1, 5, 7] y)
        <float[11, 8] table, float[9, 8] positions, float[8, 7] w,
        float two = {2}, float eps = {1e-5}>
        { a = Gather(table, ids)  b = Gather(positions, places)  e = Add(a, b)
          p = Pow(e, two)  q = ReduceMean<axes=[-1]>(p)  qe = Add(q, eps)  r = Sqrt(qe)
          i = Reciprocal(r)  n = Mul(e, i)  y = MatMul(n, w) }"""
    )
    before = model.copy()
    assert RotateMatmuls().run(model, context()).metrics == {"streams": 1}
    feed = {"ids": np.array([[1, 2, 3, 4, 5]]), "places": np.array([[0, 1, 2, 3, 4]])}
    assert_same_outputs(before, model, [feed], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 8, 12, 20, 7, 64])
def test_the_rotation_is_orthogonal_and_always_the_same(size: int) -> None:
    matrix = hadamard(size, 0)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-12)
    assert (matrix == hadamard(size, 0)).all()
    if size in {8, 64}:
        np.testing.assert_allclose(np.abs(matrix), size**-0.5)
