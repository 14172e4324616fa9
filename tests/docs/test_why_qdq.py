"""What docs/explanation/why-qdq.md says of onnxruntime is what onnxruntime does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from graphopt import testing
from graphopt.errors import ModelError
from graphopt.runtime import Census, census

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "why-qdq.md"
RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.integers(-100, 100, (4, 4, 3, 3)).astype(np.int8)
MATRIX = RANDOM.integers(-100, 100, (4, 8)).astype(np.int8)
INPUT = """xq = QuantizeLinear(x, xs, xz)
    xd = DequantizeLinear(xq, xs, xz)
    wd = DequantizeLinear(w, ws, wz)"""


def network(body: str, *, x: str, y: str, weight: str = "int8[4,4,3,3] w", more: str = "") -> str:
    return f"""g ({x} x) => ({y})
    <float xs = {{0.02}}, uint8 xz = {{128}}, float ws = {{0.01}}, int8 wz = {{0}}, {weight} {more}>
    {{ {body} }}"""


def executed(text: str, weight: np.ndarray = KERNEL, **target: str) -> Census:
    chosen = testing.named_target(target["target"]) if target else None
    return census(testing.graph(text, w=weight), chosen)


def convolution(zero: int, *, second_reader: bool = False, signed: bool = False) -> str:
    outputs = "float[1,4,8,8] y" + (", float[1,4,8,8] z" if second_reader else "")
    more = f", float os = {{0.02}}, uint8 oz = {{{zero}}}"
    text = network(
        f"""{INPUT}
        c = Conv<pads = [1,1,1,1]>(xd, wd)  r = Relu(c)
        rq = QuantizeLinear(r, os, oz)  y = DequantizeLinear(rq, os, oz)
        {"z = Neg(c)" if second_reader else ""}""",
        x="float[1,4,8,8]",
        y=outputs,
        more=more,
    )
    return (
        text.replace("uint8 xz = {128}", "int8 xz = {0}").replace("uint8", "int8")
        if signed
        else text
    )


def addition(*, operand: str = "xe", shape: str = "") -> str:
    text = network(
        f"""xq = QuantizeLinear(x, xs, xz)  xd = DequantizeLinear(xq, xs, xz)
        xe = DequantizeLinear(xq, xs, xz)
        c = Add(xd, {operand})  cq = QuantizeLinear(c, xs, xz)  y = DequantizeLinear(cq, xs, xz)""",
        x="float[1,4]",
        y="float[1,4] y",
        weight="float[1,4] k",
    )
    return text.replace("float xs", f"float{shape} xs").replace("uint8 xz", f"uint8{shape} xz")


def pooling(scale: str) -> str:
    return network(
        f"""xq = QuantizeLinear(x, xs, xz)  xd = DequantizeLinear(xq, xs, xz)
        c = MaxPool<kernel_shape = [2,2], strides = [2,2]>(xd)
        cq = QuantizeLinear(c, {scale}, xz)  y = DequantizeLinear(cq, {scale}, xz)""",
        x="float[1,4,8,8]",
        y="float[1,4,4,4] y",
        weight="float os = {0.03}",
    )


def product(bias: str | None, rows: str) -> str:
    return network(
        f"{INPUT}  c = MatMul(xd, wd)  y = {'Add(c, b)' if bias else 'Identity(c)'}",
        x=f"float[{rows},4]",
        y=f"float[{rows},8] y",
        weight="int8[4,8] w",
        more=f", {bias} b" if bias else "",
    )


def test_relu_disappears_where_zero_is_the_lowest_integer() -> None:
    found = executed(convolution(0))
    assert [e.kernel for e in found.heavy] == ["QLinearConv"]
    assert "Relu" not in found.kernels


def test_with_another_zero_point_the_convolution_is_float() -> None:
    found = executed(convolution(10))
    assert not found.heavy[0].integer
    assert found.kernels["com.microsoft.FusedConv"] == 1
    assert found.kernels["DequantizeLinear"] >= 2


@pytest.mark.parametrize(("zero", "integer"), [(-128, True), (0, False)])
def test_on_arm_the_lowest_integer_is_minus_128(zero: int, integer: bool) -> None:
    found = executed(convolution(zero, signed=True), target="arm")
    assert found.heavy[0].integer is integer


def test_a_second_reader_keeps_the_convolution_in_float() -> None:
    assert not executed(convolution(0, second_reader=True)).heavy[0].integer


def test_addition_needs_integers_on_both_sides() -> None:
    assert executed(addition()).kernels["com.microsoft.QLinearAdd"] == 1
    assert executed(addition(operand="k")).kernels["Add"] == 1


def test_a_scale_that_is_no_scalar_does_not_load() -> None:
    with pytest.raises(ModelError, match="must be a scalar"):
        executed(addition(shape="[1]"))


@pytest.mark.parametrize(("scale", "copies"), [("xs", 1), ("os", 2)])
def test_pooling_is_integer_where_the_scale_stays(scale: str, copies: int) -> None:
    found = executed(pooling(scale))
    assert found.kernels["MaxPool"] == 1
    assert found.kernels["DequantizeLinear"] == copies


def test_transposed_convolution_is_float() -> None:
    text = network(
        f"""{INPUT}  c = ConvTranspose(xd, wd)
        cq = QuantizeLinear(c, xs, xz)  y = DequantizeLinear(cq, xs, xz)""",
        x="float[1,4,8,8]",
        y="float[1,4,10,10] y",
    )
    assert [e.kernel for e in executed(text).heavy] == ["ConvTranspose"]


@pytest.mark.parametrize(
    ("bias", "rows", "kernel"),
    [
        (None, "3", "MatMulIntegerToFloat"),
        ("float[8]", "3", "MatMul"),
        ("float[8]", "2,3", "MatMul"),
        ("float[1,1,8]", "2,3", "MatMulIntegerToFloat"),
    ],
)
def test_a_vector_added_to_a_product_makes_it_float(
    bias: str | None, rows: str, kernel: str
) -> None:
    found = executed(product(bias, rows), MATRIX)
    assert [e.kernel for e in found.heavy] == [kernel]
    assert found.kernels["Gemm"] == (kernel == "MatMul")


def test_a_float_convolution_between_integers_is_quantized_at_load() -> None:
    text = network(
        """xq = QuantizeLinear(x, xs, xz)  xd = DequantizeLinear(xq, xs, xz)
        c = Conv<pads = [1,1,1,1]>(xd, f)
        cq = QuantizeLinear(c, xs, xz)  y = DequantizeLinear(cq, xs, xz)""",
        x="float[1,4,8,8]",
        y="float[1,4,8,8] y",
        weight="float[4,4,3,3] f",
    )
    assert [e.kernel for e in executed(text).heavy] == ["QLinearConv"]


def test_every_row_of_the_page_has_its_case() -> None:
    rows = re.findall(r"^\| (?!written|-)(.*) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    # Conv 3, Add 3, MaxPool 2, ConvTranspose 1, MatMul 3, float Conv 1: the tests above.
    assert len(rows) == 13
