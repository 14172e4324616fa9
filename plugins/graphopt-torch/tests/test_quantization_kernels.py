"""Each integer operator computes the very integers of onnxruntime's kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program
from graphopt_torch.execution.as_executed import as_executed
from graphopt_torch.execution.integer_kernels import DOMAIN

from graphopt import ir
from graphopt.runtime import open_session
from graphopt.runtime.census import census
from graphopt.testing import graph

if TYPE_CHECKING:
    from graphopt.ir import Graph

Array = np.ndarray[Any, Any]

HEAD = """g (float[2, 8, 9, 9] x, float[2, 8, 9, 9] v) => (uint8[N, C, H, W] y)
<float sx, uint8 zx, float sv, uint8 zv, float sy, uint8 zy{more}>
{{
  qx = QuantizeLinear (x, sx, zx)
  dx = DequantizeLinear (qx, sx, zx)
  qv = QuantizeLinear (v, sv, zv)
  dv = DequantizeLinear (qv, sv, zv)
  {body}
  y = QuantizeLinear (r, sy, zy)
}}"""

WEIGHTS = """, int8[6, {channels}, 3, 3] w, float[6] sw, int8[6] zw, int32[6] b, float[6] sb,
 int32[6] zb"""
CONV = """dw = DequantizeLinear <axis = 0> (w, sw, zw)
  db = DequantizeLinear <axis = 0> (b, sb, zb)
  """


def made(body: str, seed: int, *, more: str = "", zero: int | None = None) -> Graph:
    random = np.random.default_rng(seed)
    sx, sv, sy = random.uniform(0.01, 0.05, 3).astype(np.float32)
    if "Conv" in body:
        sy = np.float32(sy * 40)
    if "Mul" in body:
        sy = np.float32(sy / 2)
    zx, zv, zy = random.integers(0, 256, 3)
    sw = random.uniform(0.001, 0.02, 6).astype(np.float32)
    channels = 2 if "group = 4" in body else 8
    weights = {
        "w": random.integers(-127, 128, (6, channels, 3, 3)).astype(np.int8),
        "sw": sw,
        "zw": np.zeros(6, np.int8),
        "b": random.integers(-20000, 20000, 6).astype(np.int32),
        "sb": sx * sw,
        "zb": np.zeros(6, np.int32),
    }
    return graph(
        HEAD.format(body=body, more=more),
        sx=np.array(sx),
        sv=np.array(sv),
        sy=np.array(sy, np.float32),
        zx=np.array(zx, np.uint8),
        zv=np.array(zv, np.uint8),
        zy=np.array(zy if zero is None else zero, np.uint8),
        **(weights if more else {}),
    )


CASES = {
    "Add": ("r = Add (dx, dv)", "", None, "QLinearAdd"),
    "Add, Relu": ("a = Add (dx, dv) r = Relu (a)", "", 0, "QLinearAdd"),
    "Mul": ("r = Mul (dx, dv)", "", None, "QLinearMul"),
    "AveragePool": (
        "r = AveragePool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (dx)",
        "", None, "QLinearAveragePool",
    ),
    "AveragePool, pads counted": (
        "r = AveragePool <kernel_shape = [2, 3], pads = [1, 0, 0, 1], count_include_pad = 1> (dx)",
        "", None, "QLinearAveragePool",
    ),
    "GlobalAveragePool": ("r = GlobalAveragePool (dx)", "", None, "QLinearGlobalAveragePool"),
    "Conv": (
        CONV + "r = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (dx, dw, db)",
        WEIGHTS.format(channels=8), None, "QLinearConv",
    ),
    "Conv, Clip": (
        CONV + "low = Constant <value_float = 0.0> () high = Constant <value_float = 6000.0> () "
        "c = Conv <pads = [0, 1, 1, 0]> (dx, dw, db) r = Clip (c, low, high)",
        WEIGHTS.format(channels=8), 0, "QLinearConv",
    ),
}  # fmt: skip

ROUNDED = {"QLinearAdd", "QLinearMul", "QLinearAveragePool"}
"""What has a kernel of its own; products and means are found in each plan."""


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_integers_are_those_of_the_runtime(case: str, seed: int) -> None:
    body, more, zero, kernel = CASES[case]
    model = made(body, seed, more=more, zero=zero)
    assert f"com.microsoft.{kernel}" in census(model).kernels
    if kernel in ROUNDED:
        assert kernel in {n.op for n in as_executed(model).nodes() if n.domain == DOMAIN}
    random = np.random.default_rng(seed + 10)
    feed = {n: random.normal(0, 3, (2, 8, 9, 9)).astype(np.float32) for n in ("x", "v")}
    wanted = open_session(model).run(feed)[0]
    tensors = {k: torch.from_numpy(v) for k, v in feed.items()}
    found = Program.of(model).run(tensors)["y"].numpy()
    assert np.array_equal(found.astype(np.int64), wanted.astype(np.int64))
    assert len(np.unique(wanted)) > 7


def test_products_that_return_floats_are_those_of_the_runtime() -> None:
    random = np.random.default_rng(0)
    model = graph(
        """g (float[5, 64] x) => (float[5, 10] y)
        <float sx = {0.03}, uint8 zx = {117}, int8[10, 64] w, float[10] sw, int8[10] zw,
         int32[10] b, float[10] sb, int32[10] zb>
        {
          qx = QuantizeLinear (x, sx, zx)
          dx = DequantizeLinear (qx, sx, zx)
          dw = DequantizeLinear <axis = 0> (w, sw, zw)
          db = DequantizeLinear <axis = 0> (b, sb, zb)
          y = Gemm <transB = 1> (dx, dw, db)
        }""",
        w=random.integers(-127, 128, (10, 64)).astype(np.int8),
        sw=(sw := random.uniform(0.001, 0.01, 10).astype(np.float32)),
        zw=np.zeros(10, np.int8),
        b=random.integers(-9999, 9999, 10).astype(np.int32),
        sb=np.float32(0.03) * sw,
        zb=np.zeros(10, np.int32),
    )
    x = random.normal(0, 2, (5, 64)).astype(np.float32)
    wanted = open_session(model).run({"x": x})[0]
    found = Program.of(model).run({"x": torch.from_numpy(x)})["y"].numpy()
    assert np.array_equal(found, wanted)


def test_gradients_are_those_of_the_float_operators() -> None:
    """Without rounding in the way, both graphs are one function."""
    body, more, zero, _ = CASES["Conv"]
    model = made(body, 0, more=more, zero=zero)
    feeds = {
        n: torch.from_numpy(np.random.default_rng(i).normal(0, 2, (2, 8, 9, 9)).astype(np.float32))
        for i, n in enumerate(("x", "v"))
    }
    gradients = []
    for tapped in (False, True):  # a tap on a float tensor keeps the float operators
        program = Program.of(model)
        weight = program.constants["w"].float().requires_grad_()
        scale = program.constants["sx"].clone().requires_grad_()
        taps = {"r": lambda t: t} if tapped else None
        values = {"w": weight, "sx": scale, "sb": scale * program.constants["sw"]}
        found = program.run(feeds, values=values, taps=taps)["y"]
        found.float().square().mean().backward()
        gradients.append((weight.grad, scale.grad))
    for one, two in zip(*gradients, strict=True):
        assert one is not None
        assert two is not None
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4 * float(two.abs().max()))


def test_what_is_computed_in_float_stays() -> None:
    model = graph(
        """g (float[1, 4] x) => (float[1, 4] y) <float[4, 4] w>
        { a = MatMul (x, w) y = Relu (a) }"""
    )
    assert ir.structural_hash(as_executed(model)) == ir.structural_hash(model)
