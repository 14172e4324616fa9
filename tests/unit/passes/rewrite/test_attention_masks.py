"""Masks of attention: all kinds that models have, and rows in which no key is open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.fuse_attention import FuseAttention
from graphopt.testing import assert_same_outputs, context, random_feeds, run
from tests.unit.passes.rewrite.attention_texts import GUARDED, attention

_TOLERANCE = 1e-5
_LOWEST = float(np.finfo(np.float32).min)
_ADDED = "dots = MatMul (q1, k1)\n  scaled = Mul (dots, scale)\n  scores = Add (scaled, m)"


def _feed(**masks: Any) -> dict[str, Any]:
    """Return 2 rows of 3 queries and 5 keys, and the masks."""
    random = np.random.default_rng(0)
    sizes = {"q": (2, 3, 12), "k": (2, 5, 12), "v": (2, 5, 12)}
    feed = {n: random.standard_normal(s).astype(np.float32) for n, s in sizes.items()}
    return feed | {n: np.asarray(m) for n, m in masks.items()}


def _open(pattern: str) -> np.ndarray[Any, Any]:
    """Return which keys are open [2, 1, 3, 5]: all, some of each row, all but a row, none."""
    keys = np.ones((2, 1, 3, 5), bool)
    if pattern == "part":
        keys[..., 3:] = False
    elif pattern == "row":
        keys[1, :, 2] = False
    elif pattern == "none":
        keys[:] = False
    return keys


PATTERNS = ("all", "part", "row", "none")


def _fused(before: ir.Graph) -> ir.Graph:
    after = before.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 1}
    ir.verify(after)
    return after


@pytest.mark.parametrize("number", [_LOWEST, -3e38, -1e9, -65504.0, -1e4])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_of_low_numbers_from_outside(number: float, pattern: str) -> None:
    before = attention(inputs=", float[N, 1, T, S] m", scores=_ADDED)
    mask = np.where(_open(pattern), np.float32(0), np.float32(number))
    feeds = [_feed(m=mask)]
    assert_same_outputs(before, _fused(before), feeds, rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sides", ["zero, lowest", "lowest, zero"])
def test_masks_that_are_chosen_by_a_condition(pattern: str, sides: str) -> None:
    before = attention(inputs=", bool[N, 1, T, S] c", scores=f"m = Where (c, {sides})\n  {_ADDED}")
    after = _fused(before)
    assert [n.op for n in after.nodes()] == ["Where", "Attention"]
    keys = _open(pattern) if sides == "zero, lowest" else ~_open(pattern)
    assert_same_outputs(before, after, [_feed(c=keys)], rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("sides", ["zero, infinite", "infinite, zero"])
def test_safe_softmax_takes_the_condition_itself(pattern: str, sides: str) -> None:
    before = attention(
        inputs=", bool[N, 1, T, S] c",
        scores=f"m = Where (c, {sides})\n  {_ADDED}",
        weights=GUARDED,
    )
    after = _fused(before)
    assert [n.op for n in after.nodes() if n.op != "Not"] == ["Attention"]
    keys = _open(pattern) if sides == "zero, infinite" else ~_open(pattern)
    assert_same_outputs(before, after, [_feed(c=keys)], rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_scores_that_are_replaced(pattern: str) -> None:
    before = attention(
        inputs=", bool[1, 1, T, S] c",
        scores="dots = MatMul (q1, k1)\n  scores = Where (c, dots, lowest)",
    )
    after = _fused(before)
    keys = _open(pattern)[1:]
    assert_same_outputs(before, after, [_feed(c=keys)], rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_infinity_and_the_lowest_number_in_one_row(pattern: str) -> None:
    """-inf weighs nothing although all other keys of the row are masked too."""
    before = attention(inputs=", float[N, 1, T, S] m", scores=_ADDED)
    mask = np.where(_open(pattern), np.float32(0), np.float32(_LOWEST))
    mask[..., 1] = -np.inf
    feeds = [_feed(m=mask)]
    assert_same_outputs(before, _fused(before), feeds, rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("T, S", (3, 5)),
        ("1, T, S", (1, 3, 5)),
        ("3, T, S", (3, 3, 5)),
        ("N, 3, T, S", (2, 3, 3, 5)),
        ("1, 3, T, S", (1, 3, 3, 5)),
        ("N, 1, 1, S", (2, 1, 1, 5)),
        ("1, S", (1, 5)),
        ("S", (5,)),
        ("N, 1, T, 1", (2, 1, 3, 1)),
        ("N, 1, T, total", (2, 1, 3, 5)),
        ("N, 1, 1, total", (2, 1, 1, 5)),
        ("N, 1, T, total", (2, 1, 3, 1)),
    ],
)
def test_shapes_of_masks(kind: str, shape: tuple[int, ...]) -> None:
    before = attention(inputs=f", float[{kind}] m", scores=_ADDED)
    mask = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    feeds = [_feed(m=mask)]
    assert_same_outputs(before, _fused(before), feeds, rtol=_TOLERANCE, atol=_TOLERANCE)


@pytest.mark.parametrize("kind", ["B, 1, T, S", "N, H, T, S", "N, 1, R, S"])
def test_masks_that_might_make_more_of_the_scores_are_refused(kind: str) -> None:
    model = attention(
        inputs=f", float[{kind}] m", scores=_ADDED, rows="", outputs="float[A, B, C, D] mixed"
    )
    assert not FuseAttention().run(model, context()).modified


def test_two_masks_are_added_once() -> None:
    before = attention(
        inputs=", bool[N, 1, T, S] c",
        constants=", float[1, 3, 1, 1] bias = {0.5, -1.5, 2.0}",
        scores="dots = MatMul (q1, k1)\n  near = Add (dots, bias)\n"
        "  m = Where (c, zero, lowest)\n  scores = Add (m, near)",
    )
    after = _fused(before)
    for pattern in PATTERNS:
        feeds = [_feed(c=_open(pattern))]
        assert_same_outputs(before, after, feeds, rtol=_TOLERANCE, atol=_TOLERANCE)


def test_infinite_masks_without_a_test_for_nan_are_refused() -> None:
    model = attention(
        inputs=", bool[N, 1, T, S] c", scores=f"m = Where (c, zero, infinite)\n  {_ADDED}"
    )
    assert not FuseAttention().run(model, context()).modified
    replaced = attention(
        inputs=", bool[N, 1, T, S] c",
        scores="dots = MatMul (q1, k1)\n  scores = Where (c, dots, infinite)",
    )
    assert not FuseAttention().run(replaced, context()).modified


def test_two_lowest_numbers_that_make_infinity_are_refused() -> None:
    model = attention(
        inputs=", bool[N, 1, T, S] c, bool[1, 1, T, S] d",
        scores="dots = MatMul (q1, k1)\n  m = Where (c, zero, lowest)\n"
        "  n = Where (d, zero, lowest)\n  near = Add (dots, m)\n  scores = Add (near, n)",
    )
    assert not FuseAttention().run(model, context()).modified


def test_replacing_a_masked_sum_is_refused() -> None:
    model = attention(
        inputs=", float[N, 1, T, S] m, bool[N, 1, T, S] c",
        scores="dots = MatMul (q1, k1)\n  near = Add (dots, m)\n  scores = Where (c, near, lowest)",
    )
    assert not FuseAttention().run(model, context()).modified


@pytest.mark.parametrize("number", ["-1000.0", "-1.0"])
def test_replacing_by_a_number_that_scores_could_have_is_refused(number: str) -> None:
    model = attention(
        inputs=", bool[N, 1, T, S] c",
        constants=f", float low = {{{number}}}",
        scores="dots = MatMul (q1, k1)\n  scores = Where (c, dots, low)",
    )
    assert not FuseAttention().run(model, context()).modified


def _static(m: str) -> dict[str, str]:
    return {
        "head": "float[2, 3, 12] q, float[2, 3, 12] k, float[2, 3, 12] v",
        "outputs": "float[2, 3, 12] y",
        "constants": f", float[1, 1, 3, 3] m = {{{m}}}",
        "scores": _ADDED,
    }


def test_constant_causal_masks_of_infinity() -> None:
    """Every row has an open key, so that none is NaN."""
    before = attention(**_static("0, -inf, -inf, 0, 0, -inf, 0, 0, 0"))  # type: ignore[arg-type]
    after = _fused(before)
    feed = {n: v[:, :3] for n, v in _feed().items()}
    assert_same_outputs(before, after, [feed], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_constant_masks_with_a_closed_row_of_infinity_are_refused() -> None:
    model = attention(**_static("0, -inf, -inf, -inf, -inf, -inf, 0, 0, 0"))  # type: ignore[arg-type]
    assert not FuseAttention().run(model, context()).modified


def test_causal_masks_cut_out_of_a_table() -> None:
    """A corner of a triangle keeps its first column, which is open for every query."""
    triangle = ", ".join("0" if c <= r else "-inf" for r in range(4) for c in range(4))
    before = attention(
        head="float[N, T, 12] q, float[N, T, 12] k, float[N, T, 12] v",
        constants=f", float[1, 1, 4, 4] table = {{{triangle}}}, int64[2] start = {{0, 0}}, "
        "int64[2] axes = {2, 3}, int64[1] one = {1}",
        scores="size = Shape (q)\n  t = Gather <axis = 0> (size, one)\n"
        "  stop = Concat <axis = 0> (t, t)\n  m = Slice (table, start, stop, axes)\n"
        f"  {_ADDED}",
    )
    after = _fused(before)
    feed = {n: v[:, :3] for n, v in _feed().items()}
    assert_same_outputs(before, after, [feed], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_layers_share_what_is_made_of_one_mask() -> None:
    """Two attentions that read one mask: it is stretched and lifted once."""
    twice = attention(
        inputs=", bool[N, 1, 1, S] c",
        head="float[N, S, 12] q, float[N, S, 12] k, float[N, S, 12] v",
        scores=f"m = Where (c, zero, lowest)\n  {_ADDED}",
        rows="back = Transpose <perm = [0, 2, 1, 3]> (mixed)\n  z = Reshape (back, flat)\n"
        "  r0 = Reshape (z, parts)\n  r1 = Transpose <perm = [0, 2, 1, 3]> (r0)\n"
        "  dots2 = MatMul (r1, k1)\n  scores2 = Add (dots2, m)\n  w2 = Softmax (scores2)\n"
        "  mixed2 = MatMul (w2, v1)\n  back2 = Transpose <perm = [0, 2, 1, 3]> (mixed2)\n"
        "  y = Reshape (back2, flat)",
        outputs="float[N, S, 12] y",
    )
    after = twice.copy()
    assert FuseAttention().run(after, context()).metrics == {"fused": 2}
    assert len(after.nodes("Where")) == 1
    assert len(after.nodes("Expand")) == 1
    feed = {n: v[:, :3] for n, v in _feed().items()}
    keys = np.array([[1, 0, 1], [0, 0, 0]], bool).reshape(2, 1, 1, 3)
    assert_same_outputs(twice, after, [feed | {"c": keys}], rtol=_TOLERANCE, atol=_TOLERANCE)


def test_nothing_is_lost_to_a_mask_of_ones() -> None:
    before = attention(inputs=", bool[N, 1, T, S] c", weights=GUARDED,
                       scores=f"m = Where (c, zero, infinite)\n  {_ADDED}")  # fmt: skip
    after = _fused(before)
    feed = _feed(c=_open("row"))
    (zeros,) = run(after, feed)
    assert (zeros[1, 2] == 0).all()


@pytest.mark.parametrize("batch", [1, 2])
def test_masks_for_each_window_of_an_image(batch: int) -> None:
    """Shifted windows: scores are taken apart by windows, and their masks are a constant."""
    count = 3 * batch
    values = np.where(np.random.default_rng(5).integers(0, 2, (3, 4, 4)), 0.0, -100.0)
    numbers = ", ".join(str(v) for v in values.reshape(-1))
    size = f"float[{count}, 4, 12]"
    before = attention(
        head=f"{size} q, {size} k, {size} v",
        outputs=f"{size} y",
        constants=f", float[1, 3, 1, 4, 4] m = {{{numbers}}}, float[1, 3, 4, 4] bias, "
        f"int64[5] apart = {{{batch}, 3, 3, 4, 4}}, int64[4] together = {{-1, 3, 4, 4}}",
        scores="dots = MatMul (q1, k1)\n  near = Add (dots, bias)\n  wide = Reshape (near, apart)\n"
        "  added = Add (wide, m)\n  scores = Reshape (added, together)",
    )
    after = _fused(before)
    assert not after.nodes("Reshape")
    feeds = random_feeds(before)
    assert_same_outputs(before, after, feeds, rtol=_TOLERANCE, atol=_TOLERANCE)
