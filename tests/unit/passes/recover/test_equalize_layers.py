"""Equalized layers compute the same function, with channels of like range between them."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import RecipeError
from graphopt.ir import Tensor
from graphopt.passes.recover.equalize_layers import EqualizeLayers
from graphopt.passes.recover.layers.peaks import channel_peaks
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

UNEQUAL = np.array([1.0, 0.01, 5.0, 0.2], dtype=np.float32)


def unequal(shape: tuple[int, ...], axis: int = 0) -> np.ndarray:
    values = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    return values * UNEQUAL.reshape([-1 if i == axis else 1 for i in range(len(shape))])


CHAINS = {
    "relu": "t = Relu(a)",
    "leaky": "t = LeakyRelu<alpha=0.1>(a)",
    "prelu": "t = PRelu(a, slope)",
    "max pool": "r = Relu(a)  t = MaxPool<kernel_shape=[2,2]>(r)",
    "average pool": "t = AveragePool<kernel_shape=[2,2], pads=[1,1,1,1]>(a)",
    "pad": "t = Pad(a, pads)",
    "nothing": "t = Identity(a)",
}
SECONDS = {
    "dense": ("Conv", (6, 4, 3, 3)),
    "depthwise": ("Conv<group=4>", (4, 1, 3, 3)),
    "grouped": ("Conv<group=2>", (6, 2, 3, 3)),
}


def model_of(chain: str, second: str):
    op, shape = SECONDS[second]
    sizes = ", ".join(map(str, shape))
    return graph(
        f"""g (float[1, 3, 8, 8] x) => (float[N, C, H, W] y)
        <float[4, 3, 3, 3] w, float[4] b, float[4, 1, 1] slope, int64[8] pads, float[{sizes}] v>
        {{ a = Conv(x, w, b)  {CHAINS[chain]}  y = {op}(t, v) }}""",
        w=unequal((4, 3, 3, 3)),
        b=UNEQUAL,
        slope=np.full((4, 1, 1), 0.3, np.float32),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64),
    )


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("second", SECONDS)
def test_the_function_stays_the_same(chain: str, second: str) -> None:
    model = model_of(chain, second)
    before = model.copy()
    data = {"x": np.concatenate([f["x"] for f in random_feeds(model, count=4)])}
    result = EqualizeLayers().run(model, context(data=data, model=model))
    assert result.modified
    assert_same_outputs(before, model, random_feeds(model, count=2, seed=7), rtol=1e-4, atol=1e-4)


def test_channels_end_up_alike() -> None:
    model = model_of("relu", "depthwise")
    before = model.copy()
    data = {"x": np.concatenate([f["x"] for f in random_feeds(model, count=8)])}
    EqualizeLayers(exponent=1.0).run(model, context(data=data, model=model))
    one, other = (
        channel_peaks(m, context(data=data, model=m), {"t": 1})["t"].peak for m in (before, model)
    )
    assert one.max() / one.min() > 50
    assert other.max() / other.min() < 3


def test_without_data_the_weights_speak() -> None:
    model = model_of("relu", "dense")
    before = model.copy()
    assert EqualizeLayers().run(model, context()).modified
    assert_same_outputs(before, model, random_feeds(model), rtol=1e-4, atol=1e-4)


MATRICES = """g (float[2, 5] x) => (float[2, 3] y)
<float[5, 4] w, float[4] b, float[3, 4] v>
{ a = MatMul(x, w)  s = Add(a, b)  t = Relu(s)  y = Gemm<transB=1>(t, v) }"""


def test_matrices_and_the_bias_between_them() -> None:
    model = graph(MATRICES, w=unequal((5, 4), 1), b=UNEQUAL)
    before = model.copy()
    assert EqualizeLayers().run(model, context()).modified
    assert_same_outputs(before, model, random_feeds(model), rtol=1e-4, atol=1e-5)


LEFT_ALONE = {
    "another reader": "t = Relu(a)  y = Conv(t, v)  z = Abs(t)",
    "clip": "t = Clip(a, zero, six)  y = Conv(t, v)  z = Abs(x)",
    "sigmoid": "t = Sigmoid(a)  y = Conv(t, v)  z = Abs(x)",
    "shared weight": "t = Relu(a)  y = Conv(t, v)  z = Abs(v)",
    "padded with one": "t = Pad(a, pads, one)  y = Conv(t, v)  z = Abs(x)",
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_minds_the_scale_is_left_alone(case: str) -> None:
    model = graph(
        f"""g (float[1, 3, 8, 8] x) => (float[N, C, H, W] y, float[A, B, D, E] z)
        <float[4, 3, 3, 3] w, float[5, 4, 3, 3] v, float zero = {{0}}, float six = {{6}},
        float one = {{1}}, int64[8] pads>
        {{ a = Conv(x, w)  {LEFT_ALONE[case]} }}""",
        w=unequal((4, 3, 3, 3)),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64),
    )
    assert not EqualizeLayers().run(model, context()).modified


def test_dead_channels_do_no_harm() -> None:
    weight = unequal((4, 3, 3, 3))
    weight[1] = 0.0
    model = model_of("relu", "dense")
    model.set_tensor(model.value("w"), Tensor.from_array(weight))
    before = model.copy()
    EqualizeLayers(exponent=1.0).run(model, context())
    assert_same_outputs(before, model, random_feeds(model), rtol=1e-4, atol=1e-4)


def test_an_exponent_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match="exponent"):
        EqualizeLayers(exponent=1.5)
