"""Statistics of BatchNormalization are those of the samples, one layer after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from graphopt_torch.execution import Program
from graphopt_torch.quantization import TrainableWeights, reestimate_batch_norms

from graphopt import ir
from graphopt.runtime import open_session
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph


def statistics(model: Graph, name: str, feeds: list[Any]) -> tuple[Any, Any]:
    seen = model.copy()
    seen.set_outputs([seen.value(name)])
    session = open_session(seen, optimize=False)
    found = np.concatenate([session.run(f)[0] for f in feeds]).astype(np.float64)
    axes = tuple(i for i in range(found.ndim) if i != 1)
    return found.mean(axes), found.var(axes)


def test_real_model_with_other_weights(shared: Path) -> None:
    model = ir.load(shared / "models" / "cifar10_resnet20_unfolded_bn.onnx")
    program = Program.of(model)
    random = np.random.default_rng(0)
    feed = model.feeds[0].name
    feeds = [{feed: random.normal(size=(4, 3, 32, 32)).astype(np.float32)} for _ in range(3)]
    tensors = [{k: torch.from_numpy(v) for k, v in f.items()} for f in feeds]
    weights = TrainableWeights.of(model, program)
    with torch.no_grad():
        for parameter in weights.groups()["weights"]:
            parameter.mul_(1.3)
        values = weights.values()
    before = model.copy()
    weights.write(model)
    measured = reestimate_batch_norms(model, program, tensors, values=values)
    nodes = model.nodes("BatchNormalization")
    assert measured == len(nodes) == 19
    for node in (nodes[0], nodes[7], nodes[-1]):
        mean, variance = statistics(model, node.inputs[0].name, feeds)
        np.testing.assert_allclose(node.inputs[3].array(), mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(node.inputs[4].array(), variance, rtol=1e-3, atol=1e-5)
    changed = {
        v.name
        for v in model.initializers
        if not np.array_equal(v.array(), before.value(v.name).array())
    }
    stated = {n.inputs[i].name for n in nodes for i in (3, 4)}
    assert changed == stated | {v for v in weights.parameters if changed & {v}}


def test_branches_side_by_side_and_statistics_that_are_shared() -> None:
    model = graph(
        """g (float[N, 2, 3] x) => (float[N, 2, 3] y)
        <float[2] one = {1, 1}, float[2] nil = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1},
         float[2] m1 = {0, 0}, float[2] v1 = {1, 1}, float[2] m2 = {0, 0}, float[2] v2 = {1, 1}>
        {
          a = BatchNormalization (x, one, nil, m1, v1)
          b = Exp (x)
          c = BatchNormalization (b, one, nil, m2, v2)
          d = Add (a, c)
          e = BatchNormalization (d, one, nil, m, v)
          y = BatchNormalization (e, one, nil, m, v)
        }"""
    )
    x = np.random.default_rng(1).normal(3, 2, (50, 2, 3)).astype(np.float32)
    feeds = [{"x": torch.from_numpy(x[:7])}, {"x": torch.from_numpy(x[7:])}]
    assert reestimate_batch_norms(model, Program.of(model), feeds) == 2
    m1, v1, m2 = (model.value(n).array() for n in ("m1", "v1", "m2"))
    np.testing.assert_allclose(m1, x.mean((0, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(v1, x.astype(np.float64).var((0, 2)), rtol=1e-6)
    np.testing.assert_allclose(m2, np.exp(x.astype(np.float64)).mean((0, 2)), rtol=1e-5)
    assert model.value("m").array().tolist() == [0, 0]
