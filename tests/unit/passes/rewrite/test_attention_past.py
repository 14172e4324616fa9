"""Attention to earlier tokens: keys and values that are put before the new ones, and returned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_attention import FuseAttention
from graphopt.testing import assert_same_outputs, context
from tests.unit.passes.rewrite.attention_texts import attention

_TOLERANCE = 1e-5

_HEAD = (
    "float[N, T, 12] q, float[N, T, 12] k, float[N, T, 12] v, "
    "float[N, 3, P, 4] pk, float[N, 3, P, 4] pv"
)
_KEY = """k0 = Reshape (k, parts)
  k2 = Transpose <perm = [0, 2, 1, 3]> (k0)
  nk = Concat <axis = 2> (pk, k2)
  k1 = Transpose <perm = [0, 1, 3, 2]> (nk)"""
_VALUE = """v0 = Reshape (v, parts)
  v2 = Transpose <perm = [0, 2, 1, 3]> (v0)
  nv = Concat <axis = -2> (pv, v2)"""
_MIXED = "mixed = MatMul (weights, nv)"
_PRESENT = "float[N, T, 12] y, float[N, 3, W, 4] nk, float[N, 3, W, 4] nv"


def _model(**parts: Any) -> ir.Graph:
    given: dict[str, Any] = {
        "head": _HEAD, "key": _KEY, "value": _VALUE, "mixed": _MIXED, "outputs": _PRESENT
    }  # fmt: skip
    return attention(**(given | parts))


def _feed(past: int = 5, new: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(0)
    sizes = dict.fromkeys("qkv", (2, new, 12)) | dict.fromkeys(("pk", "pv"), (2, 3, past, 4))
    return {n: random.standard_normal(s).astype(np.float32) for n, s in sizes.items()}


def _fused(before: ir.Graph) -> ir.Graph:
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    return after


@pytest.mark.parametrize("outputs", [_PRESENT, "float[N, T, 12] y"])
def test_past_and_present_are_the_operators_own(outputs: str) -> None:
    before = _model(outputs=outputs)
    after = _fused(before)
    (node,) = after.nodes()
    assert (node.op, len(node.inputs)) == ("Attention", 6)
    assert [v.name for v in after.outputs] == [v.name for v in before.outputs]
    feeds = [_feed(), _feed(past=0), _feed(new=1)]
    assert_same_outputs(before, after, feeds, rtol=_TOLERANCE, atol=_TOLERANCE)


def test_masks_over_past_and_new_tokens() -> None:
    before = _model(
        head=f"{_HEAD}, bool[N, 1, 1, W] c",
        scores="dots = MatMul (q1, k1)\n  m = Where (c, zero, lowest)\n  scores = Add (dots, m)",
    )
    after = _fused(before)
    assert len(after.nodes("Attention")[0].inputs) == 6
    keys = np.random.default_rng(1).integers(0, 2, (2, 1, 1, 8)).astype(bool)
    keys[1] = False
    assert_same_outputs(before, after, [_feed() | {"c": keys}], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_keys_that_are_scaled_before_they_are_kept() -> None:
    """What is returned is scaled, so that the scale stays where it is."""
    before = _model(
        key=_KEY.replace("k0 = Reshape (k,", "ks = Mul (k, scale)\n  k0 = Reshape (ks,")
    )
    after = _fused(before)
    assert_same_outputs(before, after, [_feed()], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_past_that_the_mask_is_computed_of_stays_outside() -> None:
    """The number of all keys is read from them: the operator cannot wait for its own result."""
    before = _model(
        constants=", int64 two = {2}, int64 nought = {0}, int64 one = {1}",
        scores="size = Shape (nk)\n  w = Gather (size, two)\n  at = Range (nought, w, one)\n"
        "  far = Cast <to = 1> (at)\n  dots = MatMul (q1, k1)\n  scores = Add (dots, far)",
    )
    after = _fused(before)
    assert len(after.nodes("Attention")[0].inputs) == 4
    assert_same_outputs(before, after, [_feed()], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_past_of_keys_alone_stays_outside() -> None:
    before = _model(
        head="float[N, T, 12] q, float[N, T, 12] k, float[N, W, 12] v, float[N, 3, P, 4] pk",
        value="v0 = Reshape (v, parts)\n  v1 = Transpose <perm = [0, 2, 1, 3]> (v0)",
        mixed="mixed = MatMul (weights, v1)",
        outputs="float[N, T, 12] y, float[N, 3, W, 4] nk",
    )
    # That there are as many keys as values is not known.
    assert not FuseAttention().run(before, context()).modified


def test_shared_heads_are_kept_without_copies() -> None:
    before = _model(
        head="float[2, 3, 24] q, float[2, 3, 12] k, float[2, 3, 12] v, "
        "float[2, 3, 5, 4] pk, float[2, 3, 5, 4] pv",
        constants=", int64[4] six = {0, 0, 6, 4}, int64[1] two = {2}, "
        "int64[5] wide = {2, 3, 2, 8, 4}, int64[4] all = {2, 6, 8, 4}, int64[3] row = {0, 0, 24}",
        query="q0 = Reshape (q, six)\n  q1 = Transpose <perm = [0, 2, 1, 3]> (q0)",
        key=_KEY.replace("(nk)", "(nk3)").replace(
            "k1 =", "nk1 = Unsqueeze (nk, two)\n  nk2 = Expand (nk1, wide)\n"
            "  nk3 = Reshape (nk2, all)\n  k1 ="
        ),
        value=f"{_VALUE}\n  nv1 = Unsqueeze (nv, two)\n  nv2 = Expand (nv1, wide)\n"
        "  v1 = Reshape (nv2, all)",
        mixed="mixed = MatMul (weights, v1)",
        rows="back = Transpose <perm = [0, 2, 1, 3]> (mixed)\n  y = Reshape (back, row)",
        outputs="float[2, 3, 24] y, float[2, 3, 8, 4] nk, float[2, 3, 8, 4] nv",
    )  # fmt: skip
    after = _fused(before)
    assert [n.op for n in after.nodes()] == ["Attention"]
    feed = _feed()
    feed["q"] = np.random.default_rng(3).standard_normal((2, 3, 24)).astype(np.float32)
    assert_same_outputs(before, after, [feed], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_attention_to_another_sequence_of_heads() -> None:
    """Decoders keep keys and values of the encoder as heads."""
    before = attention(
        head="float[N, T, 12] q, float[N, 3, S, 4] k, float[N, 3, S, 4] v",
        key="k1 = Transpose <perm = [0, 1, 3, 2]> (k)",
        value="v1 = Identity (v)",
    )
    after = _fused(before)
    assert sum(n.op == "Attention" for n in after.nodes()) == 1
    random = np.random.default_rng(2)
    feed = {"q": random.standard_normal((2, 3, 12)).astype(np.float32)}
    feed |= {n: random.standard_normal((2, 3, 7, 4)).astype(np.float32) for n in "kv"}
    assert_same_outputs(before, after, [feed], rtol=_TOLERANCE, atol=_TOLERANCE)
