"""Intermediate tensors come in as few runs as their sizes allow."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from graphopt.runtime import IntermediateTensors
from graphopt.testing import graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.runtime import Session

# What NonZero returns has a size that nobody can infer.
OPEN = """m (float[N, 8] x) => (float[A, B] y) {
  z = NonZero (x)
  a = Cast <to = 1> (z)
  b = Exp (a)
  y = Neg (b) }"""


def test_sizes_that_cannot_be_inferred_are_learnt_from_the_first_feed() -> None:
    source = IntermediateTensors(graph(OPEN), ["a", "b", "y"], chunk_bytes=4 << 20)
    feed = {"x": np.ones((2, 8), np.float32)}
    tensors = source.tensors(feed)
    first = [next(tensors)]
    assert len(runs(source)) == 3
    session = runs(source)[0][0]
    first += tensors
    assert [chunk for _, chunk in runs(source)] == [["a", "b", "y"]]
    assert runs(source)[0][0] is session  # opening it again would take longer than a run
    second = list(source.tensors(feed))
    assert [n for n, _ in first] == [n for n, _ in second] == ["a", "b", "y"]
    for (_, one), (_, other) in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)  # the same kernels on the same values


def test_a_run_holds_no_more_than_it_may() -> None:
    source = IntermediateTensors(graph(OPEN), ["a", "b", "y"], chunk_bytes=200)
    feed = {"x": np.ones((2, 8), np.float32)}  # 2 x 16 floats in each
    for _ in range(3):
        assert [name for name, _ in source.tensors(feed)] == ["a", "b", "y"]
    assert len(runs(source)) == 3


def test_feeds_may_be_run_from_several_threads() -> None:
    source = IntermediateTensors(graph(OPEN), ["x", "a", "b", "y"], chunk_bytes=4 << 20)
    assert source.concurrent
    feeds = [{"x": np.full((n + 1, 8), n + 1.0, np.float32)} for n in range(12)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda feed: dict(source.tensors(feed)), feeds))
    for n, tensors in enumerate(found):
        assert list(tensors) == ["x", "a", "b", "y"]
        assert tensors["y"].shape == (2, 8 * (n + 1))
        np.testing.assert_array_equal(tensors["y"], -tensors["b"])


def runs(source: IntermediateTensors) -> Sequence[tuple[Session, list[str]]]:
    """Return the sessions that the source has open, and what each run gives."""
    assert source._plan is not None
    return source._plan.runs
