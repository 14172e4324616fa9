"""Gradients through rounding: straight-through to what is rounded, LSQ to the scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program, to_torch

from graphopt import ir
from graphopt.runtime import open_session

FAKE = """
    <ir_version: 10, opset_import: ["" : 21]>
    fake (float[N, 4] x) => (float[N, 4] y) <float s = {0.1}, uint8 z = {7}>
    {
      q = QuantizeLinear (x, s, z)
      y = DequantizeLinear (q, s, z)
    }
"""
PER_ROW = """
    <ir_version: 10, opset_import: ["" : 21]>
    fake (float[3, 4] x) => (float[3, 4] y) <float[3] s = {0.1, 0.02, 0.3}, int8[3] z = {0, 0, 0}>
    {
      q = QuantizeLinear <axis = 0> (x, s, z)
      y = DequantizeLinear <axis = 0> (q, s, z)
    }
"""
BLOCKS = """
    <ir_version: 10, opset_import: ["" : 21]>
    fake (float[2, 4] x) => (float[2, 4] y)
    <float[2, 2] s = {0.1, 0.02, 0.3, 0.05}, int8[2, 2] z = {0, 1, 2, 3}>
    {
      q = QuantizeLinear <axis = 1, block_size = 2> (x, s, z)
      y = DequantizeLinear <axis = 1, block_size = 2> (q, s, z)
    }
"""
RANGES = {FAKE: (0, 255), PER_ROW: (-128, 127), BLOCKS: (-128, 127)}


def _spread(values: torch.Tensor, text: str) -> torch.Tensor:
    if text == BLOCKS:
        return values.repeat_interleave(2, 1)
    return values.reshape(-1, 1) if values.dim() else values


def _formula(text: str, x: torch.Tensor, s: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return what LSQ differentiates: with the rounding error taken as a constant."""
    low, high = RANGES[text]
    scale, zero = _spread(s, text), _spread(z.to(s.dtype), text)
    steps = x / scale
    error = (torch.round(steps) - steps).detach()
    return (torch.clamp(steps + error + zero, low, high) - zero) * scale


def _x(text: str) -> torch.Tensor:
    rows = 3 if text == PER_ROW else 2
    drawn = np.random.default_rng(3).uniform(-6, 30, (rows, 4)).astype(np.float32)
    return to_torch(drawn)


@pytest.mark.parametrize("text", [FAKE, PER_ROW, BLOCKS], ids=["tensor", "axis", "block"])
def test_quantization_equals_onnxruntime(text: str) -> None:
    graph = ir.parse(text)
    x = _x(text)
    (wanted,) = open_session(graph, optimize=False).run({"x": x.numpy()})
    program = Program.of(graph)
    np.testing.assert_array_equal(program.run({"x": x})["y"].numpy(), wanted)
    found = program.run({"x": x.requires_grad_()}, ["q", "y"])
    np.testing.assert_array_equal(found["y"].detach().numpy(), wanted)
    assert found["q"].dtype is torch.float32, "floats that hold integers, where gradients pass"


@pytest.mark.parametrize("text", [FAKE, PER_ROW, BLOCKS], ids=["tensor", "axis", "block"])
def test_gradients_are_those_of_learned_step_sizes(text: str) -> None:
    program = Program.of(ir.parse(text))
    x, scale = _x(text).requires_grad_(), program.constants["s"].clone().requires_grad_()
    weight = torch.linspace(-1, 2, x.numel()).reshape(x.shape)
    made = program.run({"x": x}, values={"s": scale})["y"]
    (made * weight).sum().backward()
    like, step = x.detach().clone().requires_grad_(), scale.detach().clone().requires_grad_()
    (_formula(text, like, step, program.constants["z"]) * weight).sum().backward()
    torch.testing.assert_close(x.grad, like.grad)
    torch.testing.assert_close(scale.grad, step.grad, rtol=1e-4, atol=1e-4)


def test_the_formula_agrees_with_finite_differences() -> None:
    """In double precision, away from the bounds, with rounding errors held as they are."""
    x = torch.tensor([0.31, -0.12, 40.0, -3.0], dtype=torch.float64)
    scale, zero = torch.tensor(0.1, dtype=torch.float64), 7.0
    error = torch.round(x / scale) - x / scale

    def smooth(v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return (torch.clamp(v / s + error + zero, 0, 255) - zero) * s

    inputs = (x.requires_grad_(), scale.requires_grad_())
    assert torch.autograd.gradcheck(smooth, inputs, eps=1e-6, atol=1e-6)


def test_a_weight_behind_a_dq_is_given_as_floats_that_hold_integers() -> None:
    graph = ir.parse(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 2] x) => (float[N, 2] y)
        <int8[2, 2] q = {1, -2, 3, 4}, float[2] s = {0.5, 0.25}>
        {
          w = DequantizeLinear <axis = 1> (q, s)
          y = MatMul (x, w)
        }
        """
    )
    program = Program.of(graph)
    given = program.constants["q"].to(torch.float32).requires_grad_()
    x = torch.tensor([[1.0, 2.0]])
    plain, made = program.run({"x": x})["y"], program.run({"x": x}, values={"q": given})["y"]
    torch.testing.assert_close(made, plain)
    made.sum().backward()
    torch.testing.assert_close(given.grad, x.t() @ torch.tensor([[0.5, 0.25]]))


CHAIN = """
    <ir_version: 10, opset_import: ["" : 17]>
    chain (float[N, 2, 5, 5] x) => (float[N, 3, 5, 5] y)
    <float sx = {0.05}, uint8 zx = {128}, float[3] sw = {0.01, 0.02, 0.015}, int8[3] zw = {0, 0, 0},
     float[3] sb = {0.0005, 0.001, 0.00075}, float sy = {0.04}, uint8 zy = {0},
     int32[3] b = {20, -30, 400}>
    {
      qx = QuantizeLinear (x, sx, zx)
      dx = DequantizeLinear (qx, sx, zx)
      dw = DequantizeLinear <axis = 0> (w, sw, zw)
      db = DequantizeLinear <axis = 0> (b, sb)
      c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (dx, dw, db)
      r = Relu (c)
      qy = QuantizeLinear (r, sy, zy)
      y = DequantizeLinear (qy, sy, zy)
    }
"""


def _chain() -> Program:
    random = np.random.default_rng(5)
    text = CHAIN.replace("int32[3] b", "int8[3, 2, 3, 3] w, int32[3] b")
    codes = ", ".join(str(n) for n in random.integers(-127, 128, 54))
    return Program.of(ir.parse(text.replace(" w, int32", f" w = {{{codes}}}, int32")))


def _chain_gradients(tapped: bool) -> dict[str, torch.Tensor]:
    """Return gradients in integers, or, where what is between is looked at, in floats."""
    program = _chain()
    random = np.random.default_rng(6)
    x = to_torch(random.uniform(-5, 5, (4, 2, 5, 5)).astype(np.float32)).requires_grad_()
    names = ("w", "b", "sx", "sw", "sy")
    values = {n: program.constants[n].to(torch.float32).requires_grad_() for n in names}
    # The scale of the bias stays the product of the others, as it does where it is trained.
    values["sb"] = values["sx"] * values["sw"]
    taps = {n: lambda t: t * 1 for n in ("dx", "dw", "c", "r")} if tapped else None
    made = program.run({"x": x}, ["y"], values=values, taps=taps)["y"]
    (made * torch.linspace(-1, 2, made.numel()).reshape(made.shape)).sum().backward()
    return {"y": made.detach(), "x": x.grad} | {n: values[n].grad for n in names}


def test_integer_kernels_have_the_gradients_of_the_operators_that_they_replace() -> None:
    whole, floats = _chain_gradients(tapped=False), _chain_gradients(tapped=True)
    for name, found in whole.items():
        scale = float(floats[name].abs().max())
        # A relu ends at 0 and a range half a step before it: of few elements one passes a gradient.
        share = float(((found - floats[name]).abs() > 1e-3 * scale).float().mean())
        assert share <= 0.1, f"{name}: {share:.0%} of the gradients differ"


def test_integer_kernels_round_as_onnxruntime_does() -> None:
    text = CHAIN.replace("int32[3] b", "int8[3, 2, 3, 3] w, int32[3] b")
    random = np.random.default_rng(5)
    codes = ", ".join(str(n) for n in random.integers(-127, 128, 54))
    graph = ir.parse(text.replace(" w, int32", f" w = {{{codes}}}, int32"))
    program = Program.of(graph)
    x = np.random.default_rng(7).uniform(-5, 5, (64, 2, 5, 5)).astype(np.float32)
    (wanted,) = open_session(graph).run({"x": x})
    np.testing.assert_array_equal(program.run({"x": to_torch(x)})["y"].numpy(), wanted)
