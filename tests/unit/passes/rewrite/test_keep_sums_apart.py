"""Sums before layer normalizations: kept apart where onnxruntime would join them and be slower."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.passes.rewrite.keep_sums_apart import KeepSumsApart
from graphopt.runtime import census
from graphopt.targets import host_target
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

TOLERANCE = 1e-6
PLAIN = "a = Neg(x) s = Add(x, a) t = Abs(s) y = LayerNormalization(t, g, b)"
JOINED = "a = Neg(x) s = Add(x, a) y = LayerNormalization(s, g, b)"


def model(body: str, shape: str = "N,S,32", opset: int = 17) -> ir.Graph:
    text = f"m (float[{shape}] x) => (float[{shape}] y) <float[32] g, float[32] b> {{ {body} }}"
    return graph(text, opset=opset)


@pytest.mark.parametrize("shape", ["N,S,32", "N,32", "2,7,32"])
def test_what_would_be_joined_is_kept_apart(shape: str) -> None:
    before = model(JOINED, shape)
    after = before.copy()
    assert KeepSumsApart().run(after, context()).modified
    ir.verify(after)
    assert [n.op for n in after.nodes()] == ["Neg", "Sum", "LayerNormalization"]
    assert_same_outputs(before, after, random_feeds(before), rtol=TOLERANCE, atol=TOLERANCE)
    assert not KeepSumsApart().run(after, context()).modified


def test_onnxruntime_joins_an_add_and_not_a_sum() -> None:
    """When it stops to join, or the joined kernel takes vectors, the pass can go."""
    before = model(JOINED, "2,7,32")
    after = before.copy()
    KeepSumsApart().run(after, context())
    kernel = "com.microsoft.SkipLayerNormalization"
    counts = [census(made, host_target()) for made in (before, after)]
    assert [c.kernels[kernel] for c in counts] == [1, 0]
    assert counts[0].fused["LayerNormalization"] == counts[1].fused["LayerNormalization"] == 1
    assert not counts[0].lost(counts[1])


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (PLAIN, "N,S,32"),  # no sum before it
        (JOINED.replace("Neg(x)", "Identity(g)"), "N,S,32"),  # a row for all
        (JOINED, "2,3,N,32"),  # is not joined
        (JOINED.replace("LayerNormalization", "LayerNormalization<axis=1>"), "N,1,32"),
        (JOINED, "1,2,32"),  # too small to matter
    ],
)
def test_what_is_not_joined_or_small_stays(body: str, shape: str) -> None:
    found = model(body, shape)
    before = ir.structural_hash(found)
    assert not KeepSumsApart().run(found, context()).modified
    assert ir.structural_hash(found) == before


def test_a_constant_operand_stays() -> None:
    found = graph(
        """m (float[4,8,32] x) => (float[4,8,32] y) <float[4,8,32] w, float[32] g, float[32] b>
        { s = Add(x, w) y = LayerNormalization(s, g, b) }"""
    )
    assert not KeepSumsApart().run(found, context()).modified


@pytest.mark.parametrize("target", ["cortex-a76", "arm64-i8mm"])
def test_targets_without_measurement_are_left_alone(target: str) -> None:
    assert not KeepSumsApart().run(model(JOINED), context(target=target)).modified
