"""Probe inputs: real samples where there are some, plausible seeded ones otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.pipeline import probe_feeds, usable_probes
from graphopt.testing import graph

IMAGES = """m (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu (x) }"""
TOKENS = """m (int64[B, T] ids, bool[B, T] keep, int32[B, 2] other)
    => (float[B, T, 4] y, bool[B, T] k, int32[B, 2] o) <float[11, 4] table> {
  y = Gather (table, ids)
  k = Not (keep)
  o = Neg (other) }"""


def test_without_data_open_dimensions_have_two_sizes_and_one() -> None:
    probes = probe_feeds(graph(IMAGES), [], 0)
    shapes = [feed["x"].shape for feed in probes.feeds]
    assert [s[0] for s in shapes] == [2, 3, 1]
    assert all(s[2] != s[3] for s in shapes)
    assert {s[1] for s in shapes} == {3}
    assert all(s[2] >= 16 for s in shapes), "too small for a convolution"
    assert probes.origin == "seeded values (seed 0)"


def test_a_symbol_has_one_size_in_all_inputs() -> None:
    for feed in probe_feeds(graph(TOKENS), [], 0).feeds:
        assert feed["ids"].shape == feed["keep"].shape
        assert feed["other"].shape == (feed["ids"].shape[0], 2)


def test_ids_stay_within_their_table_and_masks_are_truth_values() -> None:
    feeds = [f for seed in range(20) for f in probe_feeds(graph(TOKENS), [], seed).feeds]
    ids = np.concatenate([f["ids"].ravel() for f in feeds])
    assert ids.dtype == np.int64
    assert ids.min() >= 0
    assert 8 <= ids.max() <= 10
    assert all(f["keep"].dtype == bool for f in feeds)
    assert len(np.unique(np.concatenate([f["keep"].ravel() for f in feeds]))) == 2
    other = np.concatenate([f["other"].ravel() for f in feeds])
    assert other.dtype == np.int32
    assert 0 <= other.min() <= other.max() < 8


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("float", np.float32), ("double", np.float64), ("float16", np.float16), ("uint8", np.uint8)],
)
def test_types_are_those_of_the_inputs(kind: str, expected: type) -> None:
    model = graph(f"m ({kind}[N, 4] x) => ({kind}[N, 4] y) {{ y = Identity (x) }}")
    assert all(f["x"].dtype == expected for f in probe_feeds(model, [], 0).feeds)


def test_the_seed_decides_everything() -> None:
    model = graph(IMAGES)
    first, again, other = (probe_feeds(model, [], s).feeds[0]["x"] for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_two_inputs_of_one_shape_differ() -> None:
    model = graph("m (float[4] a, float[4] b) => (float[4] y) { y = Add (a, b) }")
    feed, *_ = probe_feeds(model, [], 0).feeds
    assert not np.array_equal(feed["a"], feed["b"])


def test_real_samples_come_first_and_are_also_stacked() -> None:
    samples = [{"x": np.full((1, 3, 4, 4), n, np.float32)} for n in range(5)]
    probes = probe_feeds(graph(IMAGES), samples, 0)
    assert [f["x"].shape[0] for f in probes.feeds] == [1, 1, 2]
    assert np.array_equal(probes.feeds[2]["x"][1], samples[1]["x"][0])
    assert probes.origin == "the data"


def test_samples_of_different_shape_or_with_a_fixed_batch_are_not_stacked() -> None:
    ragged = [{"x": np.zeros((1, 3, n, 4), np.float32)} for n in (4, 5)]
    assert len(probe_feeds(graph(IMAGES), ragged, 0).feeds) == 2
    fixed = graph("m (float[1, 2] x) => (float[1, 2] y) { y = Relu (x) }")
    samples = [{"x": np.zeros((1, 2), np.float32)}] * 2
    assert len(probe_feeds(fixed, samples, 0).feeds) == 2


def test_a_model_without_inputs_has_probes_all_the_same() -> None:
    model = graph("m () => (float[2] y) <float[2] k> { y = Neg (k) }")
    assert probe_feeds(model, [], 0).feeds == ({},)


DECODER = """m (int64[B, S] input_ids, int64[B, total] attention_mask, int64[B, S] position_ids,
           float[B, 2, past, 4] past_keys) => (float[B, S, 8] y) <float[50, 8] table> {
  y = Gather (table, input_ids) }"""


def test_different_symbols_have_different_sizes_in_the_first_two_probes() -> None:
    for feed in probe_feeds(graph(DECODER), [], 0).feeds[:2]:
        batch, new = feed["input_ids"].shape
        past = feed["past_keys"].shape[2]
        total = feed["attention_mask"].shape[1]
        assert len({batch, new, past, total}) == 4
        assert 0 not in {batch, new, past, total}


def test_the_last_probe_has_sizes_of_one_and_nothing_past() -> None:
    feed = probe_feeds(graph(DECODER), [], 0).feeds[2]
    assert feed["input_ids"].shape == (1, 1)
    assert feed["past_keys"].shape == (1, 2, 0, 4)


def test_masks_are_padded_on_the_right_then_on_the_left_then_not() -> None:
    right, left, whole = (f["attention_mask"] for f in probe_feeds(graph(DECODER), [], 0).feeds)
    assert right.dtype == np.int64
    assert (np.diff(right, axis=1) <= 0).all()
    assert (np.diff(left, axis=1) >= 0).all()
    assert right.min() == left.min() == 0
    assert (right.sum(axis=1) > 0).all()
    assert (whole == 1).all()


def test_positions_count_up_and_tokens_are_rows() -> None:
    feed = probe_feeds(graph(DECODER), [], 0).feeds[0]
    assert np.array_equal(feed["position_ids"][1], np.arange(5))
    assert feed["input_ids"].max() < 50


def test_computed_dimensions_are_computed() -> None:
    model = graph("""m (int64[B, past_len] a, int64[B, "past_len + 2"] b) => (int64[B, P] y) {
      y = Neg (a) }""")
    if model.inputs[1].shape is None or model.inputs[1].shape[1] != "past_len + 2":
        model.inputs[1].shape = ("B", "past_len + 2")
    for feed in probe_feeds(model, [], 0).feeds:
        assert feed["b"].shape[1] == feed["a"].shape[1] + 2


def test_bounds_on_symbols_are_kept_and_the_upper_one_is_probed() -> None:
    model = graph(IMAGES)
    model.bounds["N"] = (4, 8)
    assert [f["x"].shape[0] for f in probe_feeds(model, [], 0).feeds] == [4, 8, 4]


def test_integers_that_say_how_something_is_done_are_small() -> None:
    model = graph("""m (float[N, 9] x, int64[1] k, int64[N, 9] by)
        => (float[N, K] y, int64[N, 9] z) {
      y, i = TopK (x, k)
      z = Div (by, by) }""")
    for seed in range(5):
        for feed in probe_feeds(model, [], seed).feeds:
            assert feed["k"].min() >= 1
            assert feed["by"].min() >= 1


def test_values_are_wide_and_at_the_edges_too() -> None:
    feeds = probe_feeds(graph(IMAGES), [], 0).feeds
    assert abs(feeds[0]["x"].std() - 1) < 0.1
    assert feeds[1]["x"].max() > 200
    assert feeds[1]["x"].min() >= 0
    edges = feeds[2]["x"]
    assert {0.0, 30.0, -30.0} <= set(np.unique(edges).tolist())


def test_a_model_that_refuses_the_first_sizes_is_given_others() -> None:
    model = graph(
        """m (float[N, 3, H, W] x) => (float[N, 3, P, Q] y) <float[3, 1, 32, 32] w> {
      h = Conv <group = 3, strides = [32, 32]> (x, w)
      s = Conv <group = 3> (h, w2)
      y = Relu (s) }""".replace(
            "<float[3, 1, 32, 32] w>", "<float[3, 1, 32, 32] w, float[3, 1, 2, 2] w2>"
        )
    )
    probes = usable_probes(model, probe_feeds(model, [], 0))
    sizes = [f["x"].shape[2:] for f in probes.feeds]
    assert all(min(s) >= 64 for s in sizes)
    assert sizes[0][0] != sizes[0][1]


def test_lengths_that_belong_together_are_found() -> None:
    model = graph(
        """m (float[N, past, 4] old, float[N, new, 4] x, float[N, all] mask)
        => (float[N, P] y) {
      joined = Concat <axis = 1> (old, x)
      sums = ReduceSum <keepdims = 0> (joined, axis)
      y = Mul (sums, mask) }""".replace(
            "=> (float[N, P] y) {", "=> (float[N, P] y) <int64[1] axis = {2}> {"
        )
    )
    probes = usable_probes(model, probe_feeds(model, [], 0))
    feed = probes.feeds[0]
    assert feed["mask"].shape[1] == feed["old"].shape[1] + feed["x"].shape[1]
