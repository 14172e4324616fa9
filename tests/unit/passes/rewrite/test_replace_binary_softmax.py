"""A softmax over two classes becomes a sigmoid where that is faster, and gives the same."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.passes.rewrite.replace_binary_softmax import ReplaceBinarySoftmax
from graphopt.testing import assert_same_outputs, context, graph

MANY = "m (float[N, 400, 2] x) => (float[N, 400, 2] y) { y = Softmax <axis = -1> (x) }"


def test_the_outputs_are_the_same_even_for_extreme_scores() -> None:
    model = graph(MANY)
    after = model.copy()
    assert ReplaceBinarySoftmax().run(after, context()).modified
    ir.verify(after)
    assert [n.op for n in after.nodes()] == ["MatMul", "Sigmoid"]
    scores = np.random.default_rng(0).standard_normal((3, 400, 2)).astype(np.float32)
    scores[0, :3] = [[90.0, -90.0], [-1e30, 1e30], [0.0, 0.0]]
    assert_same_outputs(model, after, [{"x": scores}], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("400, 2", "400, 3"),  # three classes
        ("400, 2", "40, 2"),  # few rows
        ("axis = -1", "axis = 1"),
        ("float[", "double["),
    ],
)
def test_everything_else_stays(old: str, new: str) -> None:
    model = graph(MANY.replace(old, new))
    assert not ReplaceBinarySoftmax().run(model, context()).modified


def test_an_old_softmax_runs_over_several_axes() -> None:
    assert not ReplaceBinarySoftmax().run(graph(MANY, opset=11), context()).modified
