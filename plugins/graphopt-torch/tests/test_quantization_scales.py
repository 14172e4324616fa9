"""Learned scales: gradients of the paper, what is tied, what is fixed, what biases follow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program
from graphopt_torch.quantization import TrainableWeights
from graphopt_torch.quantization.latents import IntegerLatent
from graphopt_torch.quantization.scale_families import ScaleFamilies, largest_scales
from graphopt_torch.quantization.scales import LearnedFamily, ScaleFacts
from graphopt_torch.quantization.stored_integers import StoredIntegers
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.testing import graph

Array = np.ndarray[Any, Any]


def of_paper(v: Array, s: float, low: int, high: int) -> tuple[Array, Array]:
    """Return d v_hat / d s (eq. 3) and d v_hat / d v (eq. 5) of every element."""
    steps = v / s
    inside = (steps > low) & (steps < high)
    by_scale = np.where(inside, np.rint(steps) - steps, np.where(steps <= low, low, high))
    return by_scale, inside.astype(np.float64)


@settings(deadline=None)
@given(st.integers(0, 1 << 30), st.floats(0.01, 1.0), st.sampled_from([3, 7, 127]))
def test_gradients_are_those_of_the_paper(seed: int, scale: float, high: int) -> None:
    random = np.random.default_rng(seed)
    s = float(np.float32(scale))
    weight = random.normal(0, 0.6 * high * s, (4, 6))
    upstream = random.normal(size=(4, 6)).astype(np.float32)
    integers = np.clip(np.rint(weight / s), -high, high).astype(np.int64)
    facts = StoredIntegers(
        "w", "s", "weights", integers, np.array(s, np.float32), np.zeros((1, 1), np.float32),
        0, 0, -high, high, given=("w",),
    )  # fmt: skip
    latent = IntegerLatent(facts, None, "cpu")
    with torch.no_grad():
        latent.parameter.copy_(torch.from_numpy(weight))
    family = LearnedFamily({"s": ScaleFacts(np.array(s, np.float32), weight.size, high)}, "cpu")
    learned = family.values()["s"]
    real = latent.values(learned)["w"] * learned
    real.backward(torch.from_numpy(upstream))
    by_scale, by_weight = of_paper(weight.astype(np.float32).astype(np.float64), s, -high, high)
    g = 1 / math.sqrt(weight.size * high)
    assert latent.parameter.grad is not None
    assert family.parameter.grad is not None
    np.testing.assert_allclose(latent.parameter.grad.numpy(), upstream * by_weight, atol=1e-5)
    # The parameter is the logarithm of the scale.
    wanted = s * g * float((upstream * by_scale).sum())
    np.testing.assert_allclose(float(family.parameter.grad), wanted, rtol=1e-3, atol=1e-3 * s)


def test_gradients_of_activations_are_those_of_the_paper() -> None:
    model = graph(
        """g (float[2, 50] x) => (float[2, 50] y)
        <float s = {0.05}, uint8 z = {0}>
        { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    )
    program = Program.of(model)
    weights = TrainableWeights.of(model, program)
    (scale,) = weights.groups()["activation scales"]
    x = np.random.default_rng(0).normal(4, 6, (2, 50)).astype(np.float32)
    made = program.run({"x": torch.from_numpy(x)}, values=weights.values())["y"]
    made.sum().backward()
    s = float(np.float32(0.05))
    by_scale, _ = of_paper(x.astype(np.float64), s, 0, 255)
    wanted = s * by_scale.sum() / math.sqrt(50 * 255)
    assert scale.grad is not None
    np.testing.assert_allclose(float(scale.grad), wanted, rtol=1e-3)


SHAPED = """g (float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y)
<float s0 = {0.5}, float s1 = {0.5}, float s2 = {0.25}, float s3 = {0.75}, uint8 z = {0}>
{
  q0 = QuantizeLinear (x, s0, z)
  d0 = DequantizeLinear (q0, s0, z)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d0)
  q1 = QuantizeLinear (p, s1, z)
  d1 = DequantizeLinear (q1, s1, z)
  d2 = DequantizeLinear (q1, s2, z)
  a = Add (d1, d2)
  r = Relu (a)
  q3 = QuantizeLinear (r, s3, z)
  y = DequantizeLinear (q3, s3, z)
}"""


def test_moved_integers_share_a_factor() -> None:
    families = {tuple(f.names): f.fixed for f in ScaleFamilies(graph(SHAPED)).families()}
    assert families == {("s0", "s1", "s2"): False, ("s3",): False}


def test_tied_scales_keep_their_ratios_and_are_written() -> None:
    model = graph(SHAPED)
    program = Program.of(model)
    weights = TrainableWeights.of(model, program)
    with torch.no_grad():
        weights.parameters["s0"].add_(0.3)
    assert weights.write(model) == 3
    s0, s1, s2, s3 = (float(model.value(n).array()) for n in ("s0", "s1", "s2", "s3"))
    assert s0 == s1 == 2 * s2
    assert s0 == pytest.approx(0.5 * math.exp(0.3), rel=1e-6)
    assert s3 == 0.75


def test_scales_that_are_read_in_another_way_stay() -> None:
    model = graph(
        """g (float[1, 4] x) => (float[1, 4] y, float[1, 4] z, uint8[1, 4] w)
        <float s0 = {0.00390625}, float s1 = {0.0078125}, float s2 = {0.1}, float s3 = {0.2},
         uint8 z0 = {0}, uint8 z1 = {128}>
        {
          a = QuantizeLinear (x, s0, z0)
          y = DequantizeLinear (a, s1, z1)
          b = QuantizeLinear (x, s2, z0)
          c = DequantizeLinear (b, s2, z0)
          z = Mul (c, s2)
          w = QuantizeLinear (x, s3, z0)
        }"""
    )
    assert all(f.fixed for f in ScaleFamilies(model).families())
    assert not TrainableWeights.of(model, Program.of(model)).parameters


def test_a_clip_stays_needless() -> None:
    six = float(np.float32(6) / np.float32(255))
    model = graph(
        f"""g (float[1, 4] x) => (float[1, 4] y)
        <float s = {{{six * 0.9!r}}}, uint8 z = {{0}}, float low = {{0}}, float high = {{6}}>
        {{ c = Clip (x, low, high) q = QuantizeLinear (c, s, z) y = DequantizeLinear (q, s, z) }}"""
    )
    limits = largest_scales(model)
    assert limits["s"] == pytest.approx(six, rel=1e-6)
    assert np.float32(limits["s"]) * np.float32(255) <= np.float32(6)
    weights = TrainableWeights.of(model, Program.of(model))
    with torch.no_grad():
        weights.parameters["s"].add_(5.0)
    weights.write(model)
    assert float(model.value("s").array()) == limits["s"]


LAYER = """g (float[1, 3] x) => (float[1, 2] y)
<float sx = {0.02}, int8 zx = {3}, int8[2, 3] w, float[2] sw, int8[2] zw, int32[2] b, float[2] sb,
 int32[2] zb>
{
  qx = QuantizeLinear (x, sx, zx)
  dx = DequantizeLinear (qx, sx, zx)
  dw = DequantizeLinear <axis = 0> (w, sw, zw)
  db = DequantizeLinear <axis = 0> (b, sb, zb)
  y = Gemm <transB = 1> (dx, dw, db)
}"""


def layer(off: float = 1.0) -> Any:
    sw = np.array([0.03, 0.007], np.float32)
    return graph(
        LAYER,
        w=np.array([[1, -127, 5], [90, 3, 0]], np.int8),
        sw=sw,
        zw=np.zeros(2, np.int8),
        b=np.array([1000, -30_000_001], np.int32),
        sb=(np.float32(0.02) * sw * np.float32(off)).astype(np.float32),
        zb=np.zeros(2, np.int32),
    )


@pytest.mark.parametrize("off", [1.0, 1.005])
def test_the_scale_of_a_bias_follows(off: float) -> None:
    model = layer(off)
    weights = TrainableWeights.of(model, Program.of(model))
    assert set(weights.parameters) == {"sx", "sw", "w", "b"}
    assert weights.write(model) == 0
    real = model.value("b").array() * model.value("sb").array().astype(np.float64)
    with torch.no_grad():
        weights.parameters["sx"].add_(0.25)
        weights.parameters["sw"].add_(torch.tensor([-0.5, 0.1]))
    weights.write(model)
    sx, sw, sb = (model.value(n).array() for n in ("sx", "sw", "sb"))
    if off == 1.0:
        assert np.array_equal(sb, sx * sw)
    np.testing.assert_allclose(sb, sx * sw * np.float32(off), rtol=1e-6)
    # The bias itself is what it was, to half a step.
    assert (np.abs(model.value("b").array() * sb.astype(np.float64) - real) <= 0.51 * sb).all()


def test_without_scales_and_with_exclusions() -> None:
    model = layer()
    weights = TrainableWeights.of(model, Program.of(model), learn_scales=False, exclude=("b",))
    assert set(weights.parameters) == {"w"}
    assert {k for k, v in weights.groups().items() if v} == {"weights"}


def test_a_bias_that_stays_keeps_its_scale() -> None:
    model = layer()
    weights = TrainableWeights.of(model, Program.of(model), exclude=("b",))
    assert set(weights.parameters) == {"w"}


def test_state_is_taken_over_and_checked() -> None:
    from graphopt.errors import ModelError

    model = layer()
    one, two = (TrainableWeights.of(model, Program.of(model)) for _ in range(2))
    with torch.no_grad():
        for parameter in one.parameters.values():
            parameter.add_(0.1)
    two.load(one.state())
    assert all(torch.equal(one.values()[n], two.values()[n]) for n in one.values())
    with pytest.raises(ModelError, match="another graph"):
        two.load({"w": np.zeros((2, 3), np.float32)})
