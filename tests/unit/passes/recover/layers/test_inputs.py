"""Rows of a layer: the same products as the layer itself computes."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.passes.recover.layers.inputs import (
    input_rows,
    layer_inputs,
    observed_layers,
    weight_matrix,
    weight_of_matrix,
)
from graphopt.testing import context, graph, run

CONVOLUTIONS = [
    ("", [1, 4, 7, 6], [6, 4, 3, 3]),
    ("pads=[1,0,1,2], strides=[2,1]", [2, 4, 7, 6], [6, 4, 3, 3]),
    ("group=2, dilations=[2,2]", [1, 4, 9, 8], [6, 2, 3, 3]),
    ('group=4, auto_pad="SAME_UPPER", strides=[2,2]', [1, 4, 6, 7], [4, 1, 3, 3]),
    ('auto_pad="SAME_LOWER"', [1, 4, 6, 6], [2, 4, 2, 2]),
    ('auto_pad="VALID"', [1, 4, 6, 6], [2, 4, 2, 2]),
]


@pytest.mark.parametrize(("options", "shape", "kernel"), CONVOLUTIONS)
def test_windows_times_weights_are_the_convolution(
    options: str, shape: list[int], kernel: list[int]
) -> None:
    sizes = ", ".join(map(str, kernel))
    model = graph(
        f"g (float{shape} x) => (float[A, B, C, D] y) <float[{sizes}] w>"
        f" {{ y = Conv<{options}>(x, w) }}".replace("<>", "")
    )
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    node = model.nodes("Conv")[0]
    rows = input_rows(node, values, 10**6, np.random.default_rng(0))
    assert rows is not None
    weight = weight_matrix(node, model.value("w").array())
    products = np.einsum("grf,gof->gor", rows, weight).reshape(kernel[0], -1)
    (wanted,) = run(model, {"x": values})
    np.testing.assert_allclose(
        products, np.moveaxis(wanted, 1, 0).reshape(kernel[0], -1), rtol=1e-4, atol=1e-4
    )
    assert (weight_of_matrix(node, weight, kernel) == model.value("w").array()).all()


GEMM = """g (float[N, 5] x) => (float[N, 3] y) <float[3, 5] w, float[3] b>
{ y = Gemm<transB=1>(x, w, b) }"""


def test_moments_are_those_of_the_data() -> None:
    model = graph(GEMM)
    data = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32) + 1
    ctx = context(data={"x": data}, model=model)
    (found,) = layer_inputs(model, ctx).values()
    # All samples that the layer takes are rows of the data; with few samples it takes all of the
    # first sixteen and some of the others.
    assert found.mean.shape == (1, 5)
    np.testing.assert_allclose(found.mean[0], data.mean(axis=0), atol=0.6)
    matrix = found.moments(True, 0.1)[0]
    np.testing.assert_allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    raw = found.moments(False, 0.1)[0]
    difference = raw - matrix
    assert np.trace(difference) > 0


def test_what_cannot_be_observed_is_left_out() -> None:
    model = graph(
        """g (float[2, 3] x, float[3, 3] w, double[2, 3] d) => (float[2, 3] y, double[2, 3] z)
        <double[3, 3] v> { y = MatMul(x, w)  z = MatMul(d, v) }""",
        v=np.eye(3),
    )
    assert observed_layers(model) == ()
    assert layer_inputs(model, context()) == {}


def test_without_data_there_is_nothing() -> None:
    assert layer_inputs(graph(GEMM), context()) == {}


def test_infinite_inputs_are_left_out() -> None:
    model = graph(
        """g (float[1, 5] x) => (float[1, 3] y) <float[5, 3] w>
        { l = Log(x)  y = MatMul(l, w) }"""
    )
    data = {"x": np.zeros((4, 5), dtype=np.float32)}
    assert layer_inputs(model, context(data=data, model=model)) == {}
