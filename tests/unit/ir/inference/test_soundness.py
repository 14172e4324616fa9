"""What inference says of a graph is so when the graph runs, at several sizes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.errors import GraphOptError
from graphopt.runtime import open_session
from graphopt.testing import graph as parse
from tests.fuzzing.choices import Seeded
from tests.fuzzing.models import feeds_of, model
from tests.unit.ir.inference.soundness import exposed, mistakes

if TYPE_CHECKING:
    from pathlib import Path


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_random_graphs(seed: int) -> None:
    made = model(Seeded(seed))
    try:
        shown = exposed(ir.from_bytes(made.SerializeToString()))
        session = open_session(shown, optimize=False)
    except GraphOptError:
        return
    for feed in feeds_of(made):
        try:
            found = session.run(feed)
        except GraphOptError:
            continue
        names = [v.name for v in shown.outputs]
        fresh = ir.from_bytes(made.SerializeToString())
        assert mistakes(fresh, feed, dict(zip(names, found, strict=True))) == []


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_loops_and_branches(size: int) -> None:
    made = parse("""g (float[n, 3] x, bool c, int64 m) => (float[P, Q] y, float[R, S] z, u)
        <bool yes = {1}, int64[1] one = {1}> {
          y = If (c) <then_branch = a () => (float[A, B] p) { p = Concat <axis = 0> (x, x) },
                      else_branch = b () => (float[C, D] q) { q = Abs (x) }>
          z, u = Loop (m, yes, x) <body = e (int64 i, bool g, float[E, F] s)
              => (bool h, float[G, H] t, float[I, J] w) {
                h = Identity (g)  t = Concat <axis = 0> (s, x)  w = Neg (x) }> }""")
    shown = exposed(made)
    session = open_session(shown, optimize=False)
    for branch in (True, False):
        for rounds in (0, 1, 3):
            feed = {"x": np.ones((size, 3), np.float32), "c": np.array(branch),
                    "m": np.array(rounds, np.int64)}  # fmt: skip
            found = dict(zip([v.name for v in shown.outputs], session.run(feed), strict=True))
            fresh = made.copy()
            assert mistakes(fresh, feed, found) == []
    ir.infer_shapes(made)
    assert made.value("y").shape is not None
    assert made.value("z").shape == ("R", 3)
    body = made.nodes("Loop")[0].attribute("body")
    assert body.value("w").shape == ("I", 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories260k_decoder", "cifar10_resnet20", "dtln_model_1"])
def test_real_models(name: str, shared: Path) -> None:
    graph = ir.load(shared / "data" / "models" / f"{name}.onnx")
    shown = exposed(graph)
    session = open_session(shown, optimize=False)
    for size in (1, 2):
        feed = _feed(graph, size)
        try:
            found = session.run(feed)
        except GraphOptError:
            continue
        names = [v.name for v in shown.outputs]
        assert mistakes(graph.copy(), feed, dict(zip(names, found, strict=True))) == []


def _feed(graph: ir.Graph, size: int) -> dict[str, np.ndarray]:
    source = random.Random(size)
    feed = {}
    for value in graph.feeds:
        shape = [d if isinstance(d, int) else size for d in value.shape or ()]
        kind = value.dtype.numpy_name if value.dtype is not None else "float32"
        feed[value.name] = np.full(shape, source.randint(0, 3)).astype(kind)
    return feed
