"""What can stand in the place of a branch, told without data, is what a fit with data finds."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.branches import residual_branches
from graphopt.passes.prune.branches.fit import fit_branches
from graphopt.passes.prune.branches.linear import Kind
from graphopt.passes.prune.branches.options import branch_options
from graphopt.passes.prune.branches.possible import possible_kinds
from graphopt.testing import context, graph

SAME = """
g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float[4,4,3,3] w1, float[4,4,3,3] w2> {
  a = Conv <pads = [1,1,1,1]> (x, w1)  ar = Relu (a)
  b = Conv <pads = [1,1,1,1]> (ar, w2)
  y = Add (b, x)
}
"""
POINTS = """
g (float[1,4,1,1] x) => (float[1,4,1,1] y) <float[4,4,1,1] w1, float[4,4,1,1] w2> {
  a = Conv (x, w1)  ar = Relu (a)  b = Conv (ar, w2)  y = Add (b, x)
}
"""
ROWS = """
g (float[8,4] x) => (float[8,4] y) <float[4,8] w1, float[8,4] w2> {
  a = MatMul (x, w1)  ar = Relu (a)  b = MatMul (ar, w2)  y = Add (b, x)
}
"""
SINGLE = """
g (float[1,4,6,6] x) => (float[1,4,6,6] y) <float[4,4,3,3] w1> {
  a = Conv <pads = [1,1,1,1]> (x, w1)  y = Add (a, x)
}
"""
FOREIGN = """
g (float[1,4,6,6] x, float[1,4,6,6] s) => (float[1,4,6,6] y)
<float[4,4,3,3] w1, float[4,4,3,3] w2> {
  t = Add (x, s)
  a = Conv <pads = [1,1,1,1]> (x, w1)  ar = Relu (a)
  b = Conv <pads = [1,1,1,1]> (ar, w2)
  y = Add (b, t)
}
"""


def _sizes(value: ir.Value) -> list[int]:
    return [size for size in value.shape or () if isinstance(size, int)]


@pytest.mark.parametrize("text", [SAME, POINTS, ROWS, SINGLE, FOREIGN])
def test_the_kinds_are_those_that_can_be_fitted(text: str) -> None:
    model = graph(text)
    ir.infer_shapes(model)
    random = np.random.default_rng(0)
    feeds = [
        {v.name: random.normal(size=_sizes(v)).astype(np.float32) for v in model.feeds}
        for _ in range(60)
    ]
    branches = residual_branches(model)
    assert branches
    fitted = fit_branches(model, branches, context(data=feeds, model=model), lambda _: True)
    for branch in branches:
        options = branch_options(branch, fitted[branch.name])
        found = {option.kind for option in options} - {Kind.REMOVE}
        assert set(possible_kinds(branch)[0]) == found


def test_why_nothing_can() -> None:
    model = graph(
        """
        g (float[1,4,6] x) => (float[1,4,6] y) <float[4,4,3] w1, float[4,4,1] w2> {
          a = Conv <pads = [1,1]> (x, w1)  b = Conv (a, w2)  y = Add (b, x)
        }
        """
    )
    ir.infer_shapes(model)
    (branch,) = residual_branches(model)
    branch.exit.shape = None
    assert possible_kinds(branch) == ((), "the shapes of its ends are not known")
