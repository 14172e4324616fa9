"""The optimised graph as it is executed: every tensor of it has a type and a size."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.errors import ModelError
from graphopt.runtime import executed_graph, fill_shapes, made_up_feed
from graphopt.testing import graph, named_target
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = """m (float[N, 3, 8, 8] x) => (y)
  <float[16, 3, 3, 3] w, float[16] b, float s = {0.1}, uint8 z = {0}>
  { c = Conv(x, w, b) r = Relu(c) q = QuantizeLinear(r, s, z) y = DequantizeLinear(q, s, z) }"""


def test_every_tensor_has_type_and_shape() -> None:
    feed = {"x": np.zeros((2, 3, 8, 8), np.float32)}
    found = executed_graph(graph(NETWORK), None, feed)
    values = [v for n in found.nodes() for v in n.outputs]
    assert all(v.dtype is not None and v.shape is not None for v in values)
    assert found.outputs[0].shape == (2, 16, 6, 6)
    (quantized,) = [n.outputs[0] for n in found.nodes("QuantizeLinear")]
    assert quantized.dtype is DType.UINT8
    assert "Relu" not in [n.op for n in found.nodes()]


def test_shapes_are_those_of_the_feed() -> None:
    model = graph("m (int64[N, T] i) => (y) <float[10, 4] e> { g = Gather(e, i) y = Relu(g) }")
    found = executed_graph(model, None, {"i": np.ones((3, 5), np.int64)})
    assert found.outputs[0].shape == (3, 5, 4)
    fill_shapes(found, {"i": np.ones((1, 7), np.int64)})
    assert found.outputs[0].shape == (1, 7, 4)


def test_session_entries_of_the_target_decide() -> None:
    text = """m (float[1, 4, 4, 4] x) => (y)
      <float s = {0.1}, int8 z = {0}, int8[4, 4, 1, 1] w = WEIGHTS, float ws = {0.1}>
      { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear(w, ws, z)
        c = Conv(d, v) e = Conv(d, v) a = Add(c, e)
        p = QuantizeLinear(a, s, z) y = DequantizeLinear(p, s, z) }"""
    model = graph(text.replace(" = WEIGHTS", ""), w=np.ones((4, 4, 1, 1), np.int8))
    arm = executed_graph(model, named_target("arm"), made_up_feed(model))
    assert all(v.shape is not None for n in arm.nodes() for v in n.outputs)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    executed_graph(graph(NETWORK), None, {"x": np.zeros((1, 3, 8, 8), np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_a_feed_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError, match="G215"):
        executed_graph(graph(NETWORK), None, {"x": np.zeros((1, 4, 8, 8), np.float32)})


def test_feeds_are_made_up_by_type() -> None:
    model = graph(
        "m (float[2, N] x, int64[3] i, bool[1] b) => (y) { c = Cast<to=1>(i) y = Identity(c) }"
    )
    feed = made_up_feed(model)
    assert feed["x"].shape == (2, 1)
    assert feed["x"].dtype == np.float32
    assert feed["i"].tolist() == [1, 1, 1]
    assert feed["b"].tolist() == [True]
    assert np.array_equal(feed["x"], made_up_feed(model)["x"])
