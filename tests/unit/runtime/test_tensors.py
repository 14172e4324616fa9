"""Intermediate tensors come in as few runs as their sizes allow."""

from __future__ import annotations

import numpy as np

from graphopt.runtime import IntermediateTensors
from graphopt.testing import graph

# What NonZero returns has a size that nobody can infer.
OPEN = """m (float[N, 8] x) => (float[A, B] y) {
  z = NonZero (x)
  a = Cast <to = 1> (z)
  b = Exp (a)
  y = Neg (b) }"""


def test_sizes_that_cannot_be_inferred_are_learnt_from_the_first_feed() -> None:
    source = IntermediateTensors(graph(OPEN), ["a", "b", "y"], chunk_bytes=4 << 20)
    feed = {"x": np.ones((2, 8), np.float32)}
    first = dict(source.tensors(feed))
    assert source._sessions is not None
    assert len(source._sessions) == 3
    second = dict(source.tensors(feed))
    assert len(source._sessions) == 1
    assert list(first) == list(second) == ["a", "b", "y"]
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_run_holds_no_more_than_it_may() -> None:
    source = IntermediateTensors(graph(OPEN), ["a", "b", "y"], chunk_bytes=200)
    feed = {"x": np.ones((2, 8), np.float32)}  # 2 x 16 floats in each
    for _ in range(3):
        assert [name for name, _ in source.tensors(feed)] == ["a", "b", "y"]
    assert source._sessions is not None
    assert len(source._sessions) == 3
