"""Which operators the report covers, how they run, and why the others do not run in integers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import graphopt
from graphopt.api.outcome import operators
from graphopt.calibration.observers import MinMax
from graphopt.cost import Roofline
from graphopt.pipeline import PipelineContext
from graphopt.runtime import census
from graphopt.testing import graph, named_target

if TYPE_CHECKING:
    from graphopt.ir import Graph

TARGET = named_target("x86-avx512-vnni")


def two_products() -> Graph:
    rng = np.random.default_rng(0)
    return graph(
        "m (float[8, 64] x) => (float[8, 4] y) <float[64, 64] w, float[64, 4] v> {"
        " [large] a = MatMul (x, w) b = Relu (a) [small] y = MatMul (b, v) }",
        w=rng.standard_normal((64, 64)).astype(np.float32),
        v=rng.standard_normal((64, 4)).astype(np.float32),
    )


def context() -> PipelineContext:
    return PipelineContext(TARGET, Roofline(), None, MinMax)


def test_the_last_pass_that_left_an_operator_in_float_says_why() -> None:
    model, asked = two_products(), context()
    node = next(n for n in model.nodes("MatMul") if n.label == "small")
    for running, reason in (
        ("insert-qdq", "the first word"),
        ("quantize-matmuls", "the last word"),
        ("fold-constants", "another matter"),
    ):
        asked.running = running
        asked.explain(node, reason)
    found = {o.node: o for o in operators(census(model, TARGET), asked)}
    assert found["small"].reason == "the last word"
    assert found["large"].reason == "no calibration data was given"
    assert {o.execution for o in found.values()} == {"float"}


def test_products_of_quantize_matmuls_and_quantize_weights_are_covered() -> None:
    model = two_products()
    dynamic = graphopt.compile(
        model, target=TARGET.name, measure=False, recipe="lossless",
        data=[{"x": np.ones((8, 64), np.float32)}] * 20,
    )  # fmt: skip
    assert {o.execution for o in dynamic.report.operators} == {"float"}
    for level, how in ((4, "integer"), (0, "weight-only")):
        made = graphopt.compile(
            model, target=TARGET.name, measure=False, recipe="weight-only",
            overrides=[f"quantize-weights.accuracy-level={level}"],
        )  # fmt: skip
        large, small = made.report.operators
        assert (large.op, large.execution, large.kernel) == ("MatMulNBits", how, "MatMulNBits")
        assert (large.reason is None) == (how == "integer")
        assert (small.op, small.execution) == ("MatMul", "float")
        assert "too few to be worth it" in str(small.reason)


def test_what_has_no_integer_kernel_says_so() -> None:
    model = graph(
        "m (float[1, 2, 4, 8] q) => (float[1, 2, 4, 8] y) { y = Attention (q, q, q) }", opset=23
    )
    (found,) = operators(census(model, TARGET), context())
    assert (found.execution, found.reason) == ("float", "onnxruntime computes Attention in float")
