"""Small models, ready to be given precisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls
from graphopt.passes.quantize.quantize_weights import QuantizeWeights
from graphopt.pipeline import Verifier, probe_feeds
from graphopt.planner.assignment.assigner import Assigner
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from graphopt.ir import Graph
    from graphopt.passes.base import Pass
    from graphopt.pipeline import PipelineContext

TARGET = "x86-avx512-vnni"
CONVOLUTIONS = """m (float[1, 3, 24, 24] x) => (float[1, 10] y)
  <float[16, 3, 3, 3] w0, float[16, 16, 3, 3] w1, float[16, 16, 3, 3] w2, float[16, 1, 3, 3] w3,
   float[32, 16, 1, 1] w4, float[32, 10] w5, int64[2] s = {1, 32}> {
  [c0] a0 = Conv <pads = [1, 1, 1, 1]> (x, w0)  r0 = Relu (a0)
  [c1] a1 = Conv <pads = [1, 1, 1, 1]> (r0, w1)  r1 = Relu (a1)
  [c2] a2 = Conv <pads = [1, 1, 1, 1]> (r1, w2)
  [add] a3 = Add (a2, r0)  r3 = Relu (a3)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r3)
  [c3] a4 = Conv <pads = [1, 1, 1, 1], group = 16> (p, w3)
  [c4] a5 = Conv (a4, w4)  r5 = Relu (a5)
  g = GlobalAveragePool (r5)  f = Reshape (g, s)
  [fc] y = MatMul (f, w5) }"""
PRODUCTS = """m (float[1, 16, 64] x) => (float[1, 16, 64] y)
  <float[64, 256] w0, float[256, 64] w1, float[64, 256] w2, float[256] b, float[256, 64] w3> {
  [m0] a = MatMul (x, w0)  r = Relu (a)
  [m1] c = MatMul (r, w1)  s = Tanh (c)
  [m2] d = MatMul (s, w2)  [bias] e = Add (d, b)  t = Relu (e)
  [m3] y = MatMul (t, w3) }"""


@dataclass(frozen=True)
class Small:
    """A graph with all that planning asks for."""

    graph: Graph
    steps: tuple[Pass, ...]
    context: PipelineContext
    verifier: Verifier

    def assigner(self) -> Assigner:
        """Return the minimum cuts of it."""
        return Assigner(self.graph, self.steps, self.context, self.verifier)


def convolutions(target: str = TARGET) -> Small:
    """Return a small network of convolutions with a shortcut; only int8 is open."""
    return _small(graph(CONVOLUTIONS, **_weights(CONVOLUTIONS)), (InsertQdq("integer"),), target)


def products(*steps: Pass, target: str = TARGET) -> Small:
    """Return four products, by default with every precision that there is a pass for."""
    usual = (
        InsertQdq("integer"),
        QuantizeMatmuls("dynamic"),
        QuantizeWeights(method="rtn", accuracy_level=4),
    )
    return _small(graph(PRODUCTS, **_weights(PRODUCTS)), steps or usual, target)


def _small(model: Graph, steps: tuple[Pass, ...], target: str) -> Small:
    random = np.random.default_rng(1)
    ir.infer_shapes(model)
    shape = model.inputs[0].shape
    assert shape is not None
    samples = random.normal(size=(12, *shape)).astype(np.float32)
    data = {"x": samples[:8].reshape(8, *shape[1:])}  # type: ignore[misc]
    given = context(target=target, data=data, model=model)
    feeds = [{"x": s} for s in samples]
    probes = probe_feeds(model, feeds[:2], 0)
    verifier = Verifier(model, given.target, probes, feeds[8:], timed=False)
    given.probes = verifier.probes.feeds
    return Small(model, steps, given, verifier)


def _weights(text: str) -> dict[str, Any]:
    random = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for part in text.split("<", 1)[1].split(">", 1)[0].split("float[")[1:]:
        sizes, name = part.split("]")[0], part.split("]")[1].split(",")[0].strip()
        shape = [int(s) for s in sizes.split(",")]
        fan = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        values = random.normal(size=shape) / np.sqrt(fan)
        found[name] = values.astype(np.float32)
    return found
