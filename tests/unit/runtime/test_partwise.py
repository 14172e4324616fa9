"""Running a model part by part gives what running it whole gives."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.runtime import PartwiseSession, open_session, open_sparingly
from graphopt.runtime import partwise as partwise_module
from graphopt.testing import graph, random_feeds

CHAIN = """g (float[a, 32] x, float[a, 32] r) => (float[a, 32] y, float[a, 32] h)
<float[32, 64] w, float[64, 32] v, float[32, 32] u>
{ n = MatMul(x, w) \n k = Relu(n) \n h = MatMul(k, v) \n s = Add(h, r) \n m = MatMul(s, u)
  y = Add(m, x) }"""

BODY = """g (bool c, float[a, 32] x) => (float[a, 32] y) <float[32, 32] w, float[32, 32] v>
{ m = MatMul(x, w) \n n = MatMul(m, v)
  y = If (c) <then_branch = t () => (float[a, 32] p) { p = MatMul(n, v) },
              else_branch = e () => (float[a, 32] q) { q = Add(n, x) }> }"""


@pytest.mark.parametrize("text", [CHAIN, BODY])
@pytest.mark.parametrize("part_bytes", [0, 9000, 1 << 20])
def test_parts_compute_what_the_whole_computes(text: str, part_bytes: int) -> None:
    model = graph(text)
    whole, parts = open_session(model), PartwiseSession(model, part_bytes=part_bytes)
    assert parts.outputs == whole.outputs
    assert [i[0] for i in parts.inputs] == [i[0] for i in whole.inputs]
    for feed in random_feeds(model, count=2):
        for one, other in zip(whole.run(feed), parts.run(feed), strict=True):
            # Fusions end at the borders of parts: float32 rounding of up to 64 products.
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(parts.run(feed, ["y"])[0], parts.run(feed)[0])


def test_the_graph_is_left_as_it_was() -> None:
    model = graph(CHAIN)
    before = ir.structural_hash(model)
    PartwiseSession(model, part_bytes=0).run(random_feeds(model)[0])
    assert ir.structural_hash(model) == before


def test_wrong_feeds_are_the_users_mistake() -> None:
    session = PartwiseSession(graph(CHAIN), part_bytes=0)
    with pytest.raises(ModelError) as caught:
        session.run({"x": np.ones((1, 5), np.float32), "r": np.ones((1, 5), np.float32)})
    assert caught.value.code == "G215"


def test_large_models_are_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = graph(CHAIN)
    assert type(open_sparingly(model)) is not PartwiseSession
    monkeypatch.setattr(partwise_module, "WHOLE_LIMIT", 1000)
    assert type(open_sparingly(model)) is PartwiseSession
