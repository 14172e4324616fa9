"""Smoothed activations: the same function, with outliers moved into the weights."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import RecipeError
from graphopt.passes.recover.layers.peaks import channel_peaks
from graphopt.passes.recover.smooth_activations import SmoothActivations
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

OUTLIER = np.array([1, 1, 60, 1, 1, 1, 1, 1], dtype=np.float32)

WRITERS = {
    "layer normalization": "h = LayerNormalization(x, gain, shift)",
    "spelled out": "m = Mul(x, gain)  h = Add(m, shift)",
    "gain alone": "h = Mul(x, gain)",
    "product": "h = MatMul(x, big)",
    "product with bias": "m = MatMul(x, big)  h = Add(m, shift)",
}


def model_of(writer: str, readers: str = "y = MatMul(h, w)  z = MatMul(h, v)"):
    return graph(
        f"""g (float[1, 3, 8] x) => (float[1, 3, 4] y, float[1, 3, 6] z)
        <float[8] gain, float[8] shift, float[8, 8] big, float[8, 4] w, float[8, 6] v>
        {{ {WRITERS[writer]}  {readers} }}""",
        gain=OUTLIER,
        shift=OUTLIER / 10,
        big=np.eye(8, dtype=np.float32) * OUTLIER,
    )


def data_of(model):
    return {"x": np.concatenate([f["x"] for f in random_feeds(model, count=6)])}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_function_stays_and_the_outlier_goes(writer: str) -> None:
    model = model_of(writer)
    before, data = model.copy(), data_of(model)
    result = SmoothActivations().run(model, context(data=data, model=model))
    assert result.metrics == {"tensors": 1}
    assert_same_outputs(before, model, random_feeds(model, seed=3), rtol=1e-4, atol=1e-3)
    one, other = (
        channel_peaks(m, context(data=data, model=m), {"h": -1})["h"].peak for m in (before, model)
    )
    assert other.max() / np.median(other) < 0.5 * one.max() / np.median(one)


@pytest.mark.parametrize(
    "readers",
    [
        "y = MatMul(h, w)  z = MatMul(h, v)  k = Abs(h)",
        "a = Relu(h)  y = MatMul(a, w)  z = MatMul(h, v)",
        "y = MatMul(h, w)  t = Mul(v, v)  z = MatMul(h, v)",
    ],
)
def test_tensors_with_other_readers_and_shared_weights_are_left_alone(readers: str) -> None:
    model = model_of("gain alone", readers)
    ctx = context(data=data_of(model), model=model)
    assert not SmoothActivations().run(model, ctx).modified


def test_without_data_nothing_happens() -> None:
    assert not SmoothActivations().run(model_of("gain alone"), context()).modified


def test_even_channels_are_left_alone() -> None:
    model = graph(
        """g (float[1, 8] x) => (float[1, 4] y) <float[8] gain, float[8, 4] w>
        { h = Mul(x, gain)  y = MatMul(h, w) }""",
        gain=np.ones(8, dtype=np.float32),
        w=np.ones((8, 4), dtype=np.float32),
    )
    ctx = context(data=[{"x": np.ones((1, 8), dtype=np.float32)}] * 3, model=model)
    assert not SmoothActivations().run(model, ctx).modified


def test_a_transposed_weight_is_scaled_along_its_inputs() -> None:
    model = graph(
        """g (float[2, 8] x) => (float[2, 4] y) <float[8] gain, float[4, 8] w, float[4] b>
        { h = Mul(x, gain)  y = Gemm<transB=1>(h, w, b) }""",
        gain=OUTLIER,
    )
    before = model.copy()
    assert (
        SmoothActivations(exponent=0.5)
        .run(
            model, context(data=[{"x": f["x"]} for f in random_feeds(model, count=4)], model=model)
        )
        .modified
    )
    assert_same_outputs(before, model, random_feeds(model, seed=3), rtol=1e-4, atol=1e-3)


def test_an_exponent_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match="exponent"):
        SmoothActivations(exponent=2.0)
