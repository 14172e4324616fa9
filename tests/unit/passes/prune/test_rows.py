"""Rows times the matrix give what onnxruntime gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.prune.reconstruct.rows import product_of
from graphopt.testing import graph, random_feeds, run

Array = np.ndarray[Any, Any]

CONVOLUTIONS = {
    "plain": ("Conv", "1, 4, 7, 8", "6, 4, 3, 3", 6, ""),
    "padded": ("Conv", "2, 4, 7, 8", "6, 4, 3, 3", 6, "pads=[1, 2, 0, 1]"),
    "strided": ("Conv", "2, 4, 7, 8", "6, 4, 3, 2", 6, "strides=[2, 3], pads=[1, 1, 1, 1]"),
    "dilated": ("Conv", "1, 4, 9, 9", "6, 4, 3, 3", 6, "dilations=[2, 3], pads=[2, 2, 2, 2]"),
    "pointwise": ("Conv", "2, 4, 5, 5", "6, 4, 1, 1", 6, "strides=[2, 2]"),
    "grouped": ("Conv", "2, 4, 5, 5", "6, 2, 3, 3", 6, "group=2"),
    "depthwise": ("Conv", "1, 4, 5, 5", "4, 1, 3, 3", 4, "group=4, pads=[1, 1, 1, 1]"),
    "same upper": ("Conv", "1, 4, 7, 8", "6, 4, 4, 3", 6, 'auto_pad="SAME_UPPER", strides=[2, 2]'),
    "same lower": ("Conv", "1, 4, 7, 8", "6, 4, 4, 3", 6, 'auto_pad="SAME_LOWER"'),
    "one axis": ("Conv", "2, 4, 9", "6, 4, 3", 6, "strides=[2]"),
    "three axes": ("Conv", "1, 2, 4, 5, 6", "3, 2, 2, 3, 2", 3, "pads=[0, 1, 0, 1, 1, 1]"),
    "transposed": ("ConvTranspose", "2, 4, 5, 6", "4, 6, 3, 3", 6, ""),
    "transposed, strided": (
        "ConvTranspose", "1, 4, 5, 6", "4, 6, 3, 4", 6, "strides=[2, 3], pads=[1, 0, 2, 1]",
    ),
    "transposed, padded more than it reaches": (
        "ConvTranspose", "1, 4, 7, 8", "4, 6, 2, 1", 6, "strides=[2, 2], pads=[2, 1, 0, 2]",
    ),
    "transposed, output padding": (
        "ConvTranspose", "1, 4, 5, 6", "4, 6, 2, 2", 6, "strides=[3, 3], output_padding=[1, 2]",
    ),
    "transposed, dilated": ("ConvTranspose", "1, 4, 5, 6", "4, 6, 3, 2", 6, "dilations=[2, 3]"),
    "transposed, grouped": ("ConvTranspose", "2, 4, 5, 6", "4, 3, 3, 2", 6, "group=2"),
    "transposed, same": (
        "ConvTranspose", "1, 4, 5, 6", "4, 6, 3, 3", 6, 'strides=[2, 2], auto_pad="SAME_UPPER"',
    ),
    "transposed, output shape": (
        "ConvTranspose", "1, 4, 5, 6", "4, 6, 3, 3", 6, "strides=[2, 2], output_shape=[10, 13]",
    ),
}  # fmt: skip


def check(model: ir.Graph, node: ir.Node) -> None:
    """Compare rows times matrix plus bias with the output, and write the matrix back."""
    ir.infer_shapes(model)
    product = product_of(node)
    assert product is not None
    feed = random_feeds(model)[0]
    model.set_outputs([product.output])
    made = run(model, feed)[0]
    count = product.count(made)
    picked = np.arange(count)[::2]
    rows = product.inputs(feed[product.source.name], made.shape[2:], picked)
    assert rows.shape == (product.groups, len(picked), product.features)
    found = rows @ product.matrix() + product.bias()[:, None, :]
    joined = found.transpose(1, 0, 2).reshape(len(picked), -1)
    np.testing.assert_allclose(joined, product.outputs_at(made, picked), rtol=1e-5, atol=1e-4)
    weight = product.weight.array()
    np.testing.assert_allclose(product.weight_of(product.matrix(), weight.shape), weight, rtol=1e-6)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    op, shape, kernel, outputs, attributes = CONVOLUTIONS[name]
    marks = f"<{attributes}>" if attributes else ""
    rank = ", ".join("abcde"[: shape.count(",") + 1])
    model = graph(
        f"""g (float[{shape}] x) => (float[{rank}] y) <float[{kernel}] w, float[{outputs}] b>
        {{ y = {op} {marks} (x, w, b) }}"""
    )
    check(model, model.nodes(op)[0])


@pytest.mark.parametrize("marks", ["", "<transB=1>", "<alpha=0.5, beta=2.0>"])
def test_gemm(marks: str) -> None:
    shape = "5, 3" if "transB" in marks else "3, 5"
    model = graph(
        f"""g (float[4, 3] x) => (float[4, 5] y) <float[{shape}] w, float[5] b>
        {{ y = Gemm {marks} (x, w, b) }}"""
    )
    check(model, model.nodes("Gemm")[0])


def test_the_bias_of_a_matmul_is_in_the_add_behind_it() -> None:
    model = graph(
        """g (float[2, 4, 3] x) => (float[2, 4, 5] y) <float[3, 5] w, float[5] b>
        { z = MatMul(x, w) y = Add(b, z) }"""
    )
    check(model, model.nodes("MatMul")[0])
    product = product_of(model.nodes("MatMul")[0])
    assert product is not None
    assert product.output.name == "y"


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul(x, x)",
        "y = Gemm<transA=1>(x, w)",
        "y = Gemm<alpha=0.0>(x, w)",
        "y = Gemm(x, w, x)",
        "y = MatMul(w, x)",
        "y = Relu(x)",
    ],
)
def test_what_is_no_product_with_a_constant(body: str) -> None:
    model = graph(f"g (float[3, 3] x) => (float[3, 3] y) <float[3, 3] w> {{ {body} }}")
    ir.infer_shapes(model)
    assert product_of(model.nodes()[0]) is None
