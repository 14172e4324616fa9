"""Channels behind a Clip are scaled up to its bound; what the data showed stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import RecipeError
from graphopt.passes.recover.equalize_clipped_layers import EqualizeClippedLayers
from graphopt.passes.recover.layers.peaks import channel_peaks
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

UNEQUAL = np.array([1.0, 0.01, 5.0, 0.2], dtype=np.float32)
SECONDS = {
    "dense": ("Conv", (6, 4, 3, 3)),
    "depthwise": ("Conv<group=4>", (4, 1, 3, 3)),
    "grouped": ("Conv<group=2>", (6, 2, 3, 3)),
}
ON = EqualizeClippedLayers(mode="on")


def unequal(shape: tuple[int, ...]) -> np.ndarray:
    values = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    return values * UNEQUAL.reshape([-1] + [1] * (len(shape) - 1))


def model_of(second: str = "depthwise", between: str = "t = Clip(a, zero, six)"):
    op, shape = SECONDS[second]
    sizes = ", ".join(map(str, shape))
    return graph(
        f"""g (float[1, 3, 8, 8] x) => (float[N, C, H, W] y)
        <float[4, 3, 3, 3] w, float[4] b, float[{sizes}] v, int64[8] pads, float one = {{1}},
        float zero = {{0}}, float six = {{6}}>
        {{ a = Conv(x, w, b)  {between}  y = {op}(t, v) }}""",
        w=unequal((4, 3, 3, 3)),
        b=UNEQUAL,
        v=np.random.default_rng(1).standard_normal(shape).astype(np.float32),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=np.int64),
    )


def samples(model, count: int = 8) -> dict[str, np.ndarray]:
    return {"x": np.concatenate([f["x"] for f in random_feeds(model, count=count)])}


@pytest.mark.parametrize("second", SECONDS)
@pytest.mark.parametrize(
    "between",
    [
        "t = Clip(a, zero, six)",
        "c = Clip(a, zero, six)  t = Pad(c, pads)",
        "c = Clip(a, zero, six)  t = MaxPool<kernel_shape=[2,2]>(c)",
    ],
)
def test_what_the_data_showed_stays_the_same(second: str, between: str) -> None:
    model = model_of(second, between)
    before = model.copy()
    data = samples(model)
    result = ON.run(model, context(data=data, model=model))
    assert result.modified or second == "grouped"  # where weights with one scale may lose by it
    feeds = [{"x": row[None]} for row in data["x"]]
    assert_same_outputs(before, model, feeds, rtol=1e-4, atol=1e-4)


def test_channels_end_up_alike_and_below_the_bound() -> None:
    model = model_of()
    before = model.copy()
    data = samples(model)
    ON.run(model, context(data=data, model=model))
    one, other = (
        channel_peaks(m, context(data=data, model=m), {"t": 1})["t"].top for m in (before, model)
    )
    assert one.max() / one.min() > 20
    assert other.min() == pytest.approx(6.0 / 1.6, rel=1e-3)
    assert other.max() <= 6.0


def test_a_channel_may_go_as_far_above_the_data_as_the_margin() -> None:
    model = model_of()
    before = model.copy()
    data = samples(model, count=2)
    ON.run(model, context(data=data, model=model))
    wider = [{"x": row[None] * 1.3} for row in data["x"]]
    assert_same_outputs(before, model, wider, rtol=1e-4, atol=1e-4)


LEFT_ALONE = {
    "another lower bound": "t = Clip(a, one, six)",
    "no upper bound": "t = Clip(a, zero)",
    "no Clip": "t = Relu(a)",
    "another reader": "c = Clip(a, zero, six)  d = Abs(c)  t = Add(c, d)",
    "bounds computed": "s = Add(six, one)  t = Clip(a, zero, s)",
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_is_not_clipped_to_zero_and_a_bound_is_left_alone(case: str) -> None:
    model = model_of(between=LEFT_ALONE[case])
    assert not ON.run(model, context(data=samples(model), model=model)).modified


def test_nothing_without_data_or_when_left_to_the_planner() -> None:
    model = model_of()
    assert not ON.run(model, context()).modified
    data = context(data=samples(model), model=model)
    assert not EqualizeClippedLayers().run(model, data).modified


@pytest.mark.parametrize("options", [{"mode": "maybe"}, {"margin": 0.9}, {"margin": float("nan")}])
def test_impossible_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        EqualizeClippedLayers(**options)
