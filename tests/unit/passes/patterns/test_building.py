"""What passes add to a graph, and say of it."""

from __future__ import annotations

import numpy as np

from graphopt.passes.base import counted
from graphopt.passes.patterns.building import replace_constant
from graphopt.testing import graph

TEXT = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }"


def test_a_constant_is_replaced_by_one_of_its_type() -> None:
    model = graph(TEXT)
    replace_constant(model, model.nodes("Add")[0], 1, np.array([0.5, 1.0]))
    made = model.nodes("Add")[0].inputs[1]
    assert made is not None
    assert (made.name, made.array().dtype, made.array().tolist()) == (
        "w_scaled",
        np.float32,
        [0.5, 1.0],
    )
    assert model.find("w") is None


def test_notes_have_their_plural() -> None:
    assert [counted(n, "pair", "fused") for n in (0, 1, 2)] == [
        "0 pairs fused",
        "1 pair fused",
        "2 pairs fused",
    ]
