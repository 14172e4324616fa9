"""Models with the shapes of a choice, where a stream is narrower and a branch is replaced."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.passes.prune.importance.magnitude import MagnitudeL2
from graphopt.passes.prune.samples import is_fitted
from graphopt.planner.pruning.knapsack import Option
from graphopt.planner.pruning.scorebook import ScoreBook
from graphopt.planner.pruning.scores import Scorer
from graphopt.planner.pruning.shaping import shaped
from graphopt.planner.pruning.sites import width_sites
from graphopt.planner.pruning.trials import Trials
from graphopt.registry import Registry
from graphopt.testing import context, graph

RESIDUAL = """
g (float[N,3,8,8] x) => (float[N,5] y)
<float[32,3,3,3] a, float[32,32,3,3] b, float[32,32,3,3] c, float[32,5] d> {
  s = Conv<pads=[1,1,1,1]>(x, a)
  h = Conv<pads=[1,1,1,1]>(s, b)
  r = Relu(h)
  f = Conv<pads=[1,1,1,1]>(r, c)
  t = Add(s, f)
  p = GlobalAveragePool(t)
  q = Flatten(p)
  y = MatMul(q, d)
}
"""


def trials() -> Trials:
    random = np.random.default_rng(0)
    shapes = {"a": (32, 3, 3, 3), "b": (32, 32, 3, 3), "c": (32, 32, 3, 3), "d": (32, 5)}
    weights: dict[str, Any] = {
        name: (random.standard_normal(shape) / 8).astype(np.float32)
        for name, shape in shapes.items()
    }
    model = graph(RESIDUAL, **weights)
    ir.infer_shapes(model)
    samples = {"x": random.standard_normal((120, 3, 8, 8)).astype(np.float32)}
    ctx = context(data=samples, model=model)
    coupling = couple(model, Registry().coupling_rules())
    sites = width_sites(coupling, model.nodes())
    book = ScoreBook(Scorer(model, []), None)
    return Trials(model, coupling, sites, ctx, {"l2": MagnitudeL2()}, is_fitted, book)


def test_a_branch_of_a_narrower_stream_has_the_channels_that_are_left() -> None:
    made = trials()
    stream = next(s for s in made.widths if any(a.value.name == "t" for a in s.group.axes))
    (branch,) = made.branches
    for kind in ("lin1", "merged1", "drop"):
        chosen = [Option(stream.name, "24@l2", 0.0, 0.0), Option(branch.name, kind, 0.0, 0.0)]
        smaller = shaped(made, chosen)
        assert ir.find_contradiction(smaller) is None
        value = smaller.value("t")
        assert value.shape is not None
        assert value.shape[1] == 24
        assert made.graph.value("t").shape == ("N", 32, 8, 8), "the original stays as it was"
