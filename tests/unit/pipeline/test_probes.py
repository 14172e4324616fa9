"""Probe inputs: real samples where there are some, plausible seeded ones otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.pipeline import probe_feeds
from graphopt.testing import graph

IMAGES = """m (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Relu (x) }"""
TOKENS = """m (int64[B, T] ids, bool[B, T] keep, int32[B, 2] other)
    => (float[B, T, 4] y, bool[B, T] k, int32[B, 2] o) <float[11, 4] table> {
  y = Gather (table, ids)
  k = Not (keep)
  o = Neg (other) }"""


def test_without_data_dynamic_dimensions_are_probed_at_two_sizes() -> None:
    probes = probe_feeds(graph(IMAGES), [], 0)
    shapes = [feed["x"].shape for feed in probes.feeds]
    assert len({s[0] for s in shapes}) == 2
    assert all(n > 1 for s in shapes for n in (s[0], *s[2:]))
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
    (feed, _) = probe_feeds(model, [], 0).feeds
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
    assert probe_feeds(model, [], 0).feeds == ({}, {})
