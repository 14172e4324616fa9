"""An LSTM of one step, spelled out, computes what the operator does; other LSTMs stay."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.passes.rewrite.unroll_lstm import UnrollLstm
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

_TOLERANCE = 1e-5
"""Relative and absolute: sums of products in another order."""


def _model(
    inputs: str = "x, w, r, b, , h, c", attributes: str = "", *, steps: int = 1, batch: int = 1
) -> ir.Graph:
    settings = ", ".join(["hidden_size = 2", *([attributes] if attributes else [])])
    return graph(
        f"""m (float[{steps}, {batch}, 3] x, float[1, {batch}, 2] h, float[1, {batch}, 2] c)
      => (float[{steps}, 1, {batch}, 2] y, float[1, {batch}, 2] hn, float[1, {batch}, 2] cn)
      <float[1, 8, 3] w, float[1, 8, 2] r, float[1, 16] b, float[1, 6] p, int32[{batch}] ones> {{
      y, hn, cn = LSTM <{settings}> ({inputs})
      unused = Add (h, c)
    }}""",
        ones=[1] * batch,
    )


@pytest.mark.parametrize(
    ("inputs", "attributes", "batch"),
    [
        ("x, w, r, b, , h, c", "", 1),
        ("x, w, r, b, , h, c", 'direction = "reverse"', 3),
        ("x, w, r, , , h, c", "", 1),
        ("x, w, r, b", "", 2),
        ("x, w, r, b, , h", "", 1),
        ("x, w, r, b, , , c", 'activations = ["Sigmoid", "Tanh", "Tanh"]', 1),
    ],
)
def test_one_step_computes_the_same(inputs: str, attributes: str, batch: int) -> None:
    before = _model(inputs, attributes, batch=batch)
    after = before.copy()
    result = UnrollLstm(max_rows=3, always=True).run(after, context())
    ir.verify(after)
    assert result.metrics == {"unrolled": 1}
    assert not after.nodes("LSTM")
    assert_same_outputs(
        before, after, random_feeds(before, count=2), rtol=_TOLERANCE, atol=_TOLERANCE
    )


@pytest.mark.parametrize(
    ("inputs", "attributes", "sizes", "reason"),
    [
        ("x, w, r, b, , h, c, p", "", {}, "peepholes"),
        ("x, w, r, b, , h, c", "clip = 1.0", {}, "clips"),
        ("x, w, r, b, , h, c", "input_forget = 1", {}, "couples"),
        ("x, w, r", 'activations = ["Sigmoid", "Relu", "Tanh"]', {}, "activations"),
        ("x, w, r, b, , h, c", "", {"steps": 2}, "more than one step"),
        ("x, w, r, b, , h, c", "", {"batch": 17}, "larger than 16"),
    ],
)
def test_others_stay_and_it_says_why(
    inputs: str, attributes: str, sizes: dict[str, int], reason: str
) -> None:
    model, asked = _model(inputs, attributes, **sizes), context()
    assert not UnrollLstm(max_rows=16, always=True).run(model, asked).modified
    assert reason in next(iter(asked.reasons.values()))


def test_outputs_that_nobody_reads_are_not_made() -> None:
    before = graph("""m (float[1, 1, 3] x) => (float[1, 1, 2] z)
      <float[1, 8, 3] w, float[1, 8, 2] r> {
        , hn = LSTM <hidden_size = 2> (x, w, r)
        z = Neg (hn)
    }""")
    after = before.copy()
    assert UnrollLstm(max_rows=3, always=True).run(after, context()).modified
    ir.verify(after)
    assert_same_outputs(before, after, random_feeds(before), rtol=_TOLERANCE, atol=_TOLERANCE)


def test_without_data_the_operator_stays() -> None:
    model = _model()
    assert not UnrollLstm().run(model, context()).modified
    assert UnrollLstm().run(model, context(ranges={})).modified
