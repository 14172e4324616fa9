"""Operators of onnxruntime, and those that graphopt writes, as the runtime computes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from graphopt_torch.execution import Program, to_torch, unsupported

from graphopt import ir
from graphopt.api.compiler import compile_model
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph

Array = np.ndarray[Any, Any]
TOLERANCE = 1e-4
HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'

CASES = {
    "BiasGelu": """(float[3, 4] x, float[4] b) => (float[3, 4] y)
        { y = com.microsoft.BiasGelu (x, b) }""",
    "FastGelu": """(float[3, 4] x, float[4] b) => (float[3, 4] y)
        { y = com.microsoft.FastGelu (x, b) }""",
    "QuickGelu": "(float[3, 4] x) => (float[3, 4] y) { y = com.microsoft.QuickGelu (x) }",
    "Gelu": "(float[3, 4] x) => (float[3, 4] y) { y = com.microsoft.Gelu (x) }",
    "FusedMatMul": """(float[2, 4, 3] x, float[2, 4, 5] w) => (float[2, 3, 5] y)
        { y = com.microsoft.FusedMatMul <transA = 1, alpha = 0.5> (x, w) }""",
    "SkipLayerNormalization": """(float[2, 3, 4] x, float[2, 3, 4] k, float[4] g, float[4] b)
        => (float[2, 3, 4] y) { y = com.microsoft.SkipLayerNormalization (x, k, g, b) }""",
    "SkipSimplifiedLayerNormalization": """(float[2, 3, 4] x, float[2, 3, 4] k, float[4] g)
        => (float[2, 3, 4] y) { y = com.microsoft.SkipSimplifiedLayerNormalization (x, k, g) }""",
    "DynamicQuantizeMatMul": """(float[3, 16] x) => (float[3, 2] y)
        <float[2] s = {0.1, 0.2}>
        { y = com.microsoft.DynamicQuantizeMatMul (x, codes, s) }""",
    "MatMulIntegerToFloat": """(float[3, 16] x) => (float[3, 2] y)
        <float s = {0.1}, float[2] sw = {0.1, 0.2}, uint8 z = {9}>
        {
          q = QuantizeLinear (x, s, z)
          y = com.microsoft.MatMulIntegerToFloat (q, codes, s, sw, z)
        }""",
    "QLinearAdd": """(float[3, 4] x, float[3, 4] k) => (uint8[3, 4] y)
        <float s = {0.02}, float t = {0.03}, uint8 z = {90}>
        {
          a = QuantizeLinear (x, s, z)
          b = QuantizeLinear (k, t, z)
          y = com.microsoft.QLinearAdd (a, s, z, b, t, z, t, z)
        }""",
    "QLinearMul": """(float[3, 4] x, float[3, 4] k) => (uint8[3, 4] y)
        <float s = {0.02}, float t = {0.03}, uint8 z = {90}>
        {
          a = QuantizeLinear (x, s, z)
          b = QuantizeLinear (k, t, z)
          y = com.microsoft.QLinearMul (a, s, z, b, t, z, t, z)
        }""",
}


def _case(name: str) -> Graph:
    text = CASES[name]
    if "codes" in text:
        drawn = np.random.default_rng(2).integers(-127, 128, 32)
        stated = f"int8[16, 2] codes = {{{', '.join(map(str, drawn))}}}, "
        text = text.replace("<float", f"<{stated}float", 1)
    return ir.parse(f"{HEAD} case {text}")


def _assert_executed(graph: Graph, feed: dict[str, Array]) -> None:
    session = open_session(graph, optimize=False)
    found = Program.of(graph).run({n: to_torch(a) for n, a in feed.items()})
    for name, wanted in zip(session.outputs, session.run(feed), strict=True):
        other = found[name].numpy()
        assert other.dtype == wanted.dtype
        most = float(np.abs(wanted).max())
        np.testing.assert_allclose(
            other.astype(np.float64), wanted.astype(np.float64), rtol=0, atol=TOLERANCE * most
        )


@pytest.mark.parametrize("name", CASES)
def test_operators_of_the_runtime(name: str) -> None:
    graph = _case(name)
    random = np.random.default_rng(0)
    feed = {v.name: random.standard_normal(v.shape).astype(np.float32) for v in graph.feeds}
    _assert_executed(graph, feed)


@pytest.mark.parametrize("level", [1, 4])
@pytest.mark.parametrize(
    ("inputs", "block", "points"), [(64, 32, False), (172, 32, False), (256, 16, True)]
)
def test_products_with_matrices_of_4_bits(
    inputs: int, block: int, points: bool, level: int
) -> None:
    """At level 4 the runtime rounds the activations to 8 bits as well, block by block."""
    random, outputs, blocks = np.random.default_rng(1), 48, -(-inputs // block)
    graph = ir.parse(
        f"""{HEAD} product (float[M, {inputs}] x) => (float[M, {outputs}] y)
        {{
          y = com.microsoft.MatMulNBits <K = {inputs}, N = {outputs}, bits = 4,
            block_size = {block}, accuracy_level = {level}> (x, x, x)
        }}"""
    )
    node = graph.nodes("MatMulNBits")[0]
    codes = random.integers(0, 256, (outputs, blocks, block // 2)).astype(np.uint8)
    stored = [graph.add_constant("codes", codes)]
    stored.append(graph.add_constant("scales", random.random((outputs, blocks), np.float32)))
    if points:
        zeros = random.integers(0, 256, (outputs, (blocks + 1) // 2)).astype(np.uint8)
        stored.append(graph.add_constant("zeros", zeros))
    node.set_inputs([node.inputs[0], *stored])
    for rows in (1, 18):
        _assert_executed(graph, {"x": random.standard_normal((rows, inputs)).astype(np.float32)})


def _tokens(graph: Graph) -> dict[str, Array]:
    (value,) = graph.feeds
    drawn = np.random.default_rng(4).integers(0, 200, (2, 9))
    assert value.dtype is not None
    return {value.name: drawn.astype(value.dtype.numpy_name)}


def test_what_the_lossless_recipe_writes(shared: Path, models: Path) -> None:
    """Attention, RMSNormalization, RotaryEmbedding, LayerNormalization, Gelu."""
    decoder = shared / "models" / "stories260k_decoder.onnx"
    compiled = compile_model(decoder, recipe="lossless", target="x86", measure=False).graph
    assert {"Attention", "RMSNormalization", "RotaryEmbedding"} <= {n.op for n in compiled.nodes()}
    _assert_executed(compiled, _tokens(compiled))
    waves = models / "waveform_transformer.onnx"
    compiled = compile_model(waves, recipe="lossless", target="x86", measure=False).graph
    assert {"Attention", "LayerNormalization", "Gelu"} <= {n.op for n in compiled.nodes()}
    shape = [d if isinstance(d, int) else 3 for d in compiled.feeds[0].shape or ()]
    drawn = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    _assert_executed(compiled, {compiled.feeds[0].name: drawn})


def test_what_the_weight_only_recipe_writes(shared: Path) -> None:
    decoder = shared / "models" / "stories260k_decoder.onnx"
    compiled = compile_model(decoder, recipe="weight-only", target="x86", measure=False).graph
    assert {"MatMulNBits", "GatherBlockQuantized"} <= {n.op for n in compiled.nodes()}
    assert not unsupported(compiled)
    for node in compiled.nodes("MatMulNBits"):
        node.set_attribute("accuracy_level", 1)
    _assert_executed(compiled, _tokens(compiled))
