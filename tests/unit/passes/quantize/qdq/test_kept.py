"""What is one operator in float, or gains nothing in integer, stays float."""

from __future__ import annotations

import pytest

from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.runtime import census
from graphopt.testing import context, graph, random_feeds

GELU = "a = Div(h, r)\n b = Erf(a)\n d = Add(b, one)\n e = Mul(h, d)\n c = Mul(e, half)"
GELU_HALF_FIRST = "a = Div(h, r)\n b = Erf(a)\n d = Add(b, one)\n e = Mul(h, half)\n c = Mul(e, d)"
RMS = (
    "p = Mul(h, h)\n m = ReduceMean<axes=[-1]>(p)\n v = Add(m, one)\n s = Sqrt(v)\n"
    " i = Div(one, s)\n e = Mul(h, i)\n c = Mul(e, g)"
)
RMS_POW = RMS.replace("Mul(h, h)", "Pow(h, two)")
QUICK_GELU = "a = Mul(h, f)\n b = Sigmoid(a)\n c = Mul(h, b)"


def kernels(body: str, **options: object) -> dict[str, int]:
    text = f"""m (float[1,8,16] x) => (float[1,8,16] y)
        <float[16,16] w1, float[16] b1, float[16,16] w2, float r={{1.4142135}}, float one={{1.0}},
         float half={{0.5}}, float two={{2.0}}, float f={{1.702}}, float[16] g> {{
      h0 = MatMul(x, w1)
      h = Add(h0, b1)
      {body}
      y = MatMul(c, w2) }}"""
    model = graph(text)
    feeds = random_feeds(model, count=2)
    step = InsertQdq(placement="integer", **options)  # type: ignore[arg-type]
    step.run(model, context(data=feeds, model=model))
    model.sort()
    found = census(model).kernels
    return {k.rpartition(".")[2]: n for k, n in found.items()}


@pytest.mark.parametrize(
    ("body", "kernel"),
    [
        (GELU, "Gelu"),
        (RMS_POW, "SimplifiedLayerNormalization"),
        (QUICK_GELU, "QuickGelu"),
    ],
)
def test_it_is_still_one_operator_between_integer_products(body: str, kernel: str) -> None:
    found = kernels(body)
    assert found["MatMulIntegerToFloat"] == 2
    assert kernel in found or f"Bias{kernel}" in found
    assert not any(k.startswith("QLinear") for k in found)


@pytest.mark.parametrize("body", [GELU_HALF_FIRST, RMS])
def test_other_spellings_are_not_torn_apart_either(body: str) -> None:
    found = kernels(body)
    assert found["MatMulIntegerToFloat"] == 2
    assert not any(k.startswith("QLinear") for k in found)


def test_gates_of_convolutions_are_integer_unless_told_otherwise() -> None:
    text = """m (float[1,4,8,8] x) => (float[1,4,8,8] y)
        <float[4,4,1,1] w1, float[4,4,1,1] w2> {
      a = Conv(x, w1)
      b = Sigmoid(a)
      c = Mul(a, b)
      y = Conv(c, w2) }"""
    for option, wanted in (
        ("integer", {"QLinearSigmoid", "QLinearMul"}),
        ("float", {"Sigmoid", "Mul"}),
    ):
        model = graph(text)
        feeds = random_feeds(model, count=2)
        step = InsertQdq(placement="integer", align=False, elementwise=option)  # type: ignore[arg-type]
        asked = context(data=feeds, model=model)
        step.run(model, asked)
        model.sort()
        found = census(model)
        assert wanted <= {k.rpartition(".")[2] for k in found.kernels}
        assert all(e.integer for e in found.heavy)


def test_a_residual_add_is_integer_where_gates_are_not() -> None:
    text = """m (float[1,4,8,8] x) => (float[1,4,8,8] y)
        <float[4,4,1,1] w1, float[4,4,1,1] w2> {
      a = Conv(x, w1)
      b = LeakyRelu(a)
      d = Conv(b, w2)
      c = Add(a, d)
      y = Conv(c, w2) }"""
    model = graph(text)
    feeds = random_feeds(model, count=2)
    step = InsertQdq(placement="integer", align=False, elementwise="float")
    step.run(model, context(data=feeds, model=model))
    model.sort()
    found = {k.rpartition(".")[2] for k in census(model).kernels}
    assert {"QLinearAdd", "LeakyRelu"} <= found
    assert "QLinearLeakyRelu" not in found
