"""Random legal graphs through each exact pass, pairs of passes and the whole recipe.

``GRAPHOPT_FUZZ_EXAMPLES`` asks for more examples than the few that every run tries, and for others
each time: ``GRAPHOPT_FUZZ_EXAMPLES=20000 pytest tests/fuzzing`` takes about an hour.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto
from onnx import helper as h

from graphopt import ir
from graphopt.recipe import instantiate, preset
from graphopt.registry import Registry
from graphopt.runtime import open_session
from graphopt.testing import context
from tests.backend.exact import EXACT_PASSES, assert_equal_outputs
from tests.fuzzing.builder import OPEN, Builder
from tests.fuzzing.layers import LAYERS
from tests.fuzzing.steps import STEPS

if TYPE_CHECKING:
    from graphopt.passes.base import Pass

EXAMPLES = int(os.environ.get("GRAPHOPT_FUZZ_EXAMPLES", "0"))
TOLERANCE = 2e-4
"""Of the largest value of each output: sums come in another order, divisions as products."""
BATCHES = (2, 3)
FEWEST_OPERATORS = 60

settings = hypothesis.settings(
    max_examples=EXAMPLES or 100,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Return a legal model of a few steps, all of whose values are outputs or lead to one."""
    b = Builder(draw)
    b.feed(b.pick([(OPEN, 3, 4), (OPEN, 2, 5, 6), (OPEN, 4), (2, 3, 4), (1, 4)]))
    for _ in range(b.number(2, 9)):
        b.pick(STEPS if b.flag() else LAYERS)(b)
    made = [i for i in b.items if not i.name.startswith("x")]
    read = {name for node in b.nodes for name in node.input}
    kept = [i for i in made if i.name not in read] or made[-1:]
    kept += [i for i in made if i not in kept and b.number(0, 7) == 0]
    if not kept:
        b.keep(b.call("Identity", [b.items[0].name]), b.items[0].shape)
        kept = b.items[-1:]
    outputs = [h.make_tensor_value_info(i.name, TensorProto.FLOAT, [None] * i.rank) for i in kept]
    graph = h.make_graph(b.nodes, "g", b.inputs, outputs, b.constants)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def feeds_of(model: onnx.ModelProto) -> list[dict[str, Any]]:
    """Return normal values at two sizes of the open dimension."""
    feeds = []
    for size in BATCHES:
        random = np.random.default_rng(size)
        shapes = {
            i.name: [d.dim_value or size for d in i.type.tensor_type.shape.dim]
            for i in model.graph.input
        }
        feeds.append({k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()})
    return feeds


def outputs(model: ir.Graph, feeds: list[dict[str, Any]]) -> list[list[Any]]:
    session = open_session(model, optimize=False)
    return [session.run(feed) for feed in feeds]


def apply(graph: ir.Graph, steps: list[Pass], who: str) -> None:
    """Run the passes; each is honest and leaves a legal graph."""
    for step in steps:
        kept = ir.structural_hash(graph)
        result = step.run(graph, context())
        graph.sort()
        assert result.modified == (ir.structural_hash(graph) != kept), f"{who} is not honest"
        ir.verify(graph)


def check(model: onnx.ModelProto, runs: dict[str, list[Pass]]) -> None:
    """Compare the outputs after each run of passes with those before."""
    before = ir.from_bytes(model.SerializeToString())
    feeds = feeds_of(model)
    wanted = outputs(before, feeds)
    hypothesis.assume(all(np.isfinite(v).all() for one in wanted for v in one))
    kept = ir.structural_hash(before)
    for who, steps in runs.items():
        after = before.copy()
        apply(after, steps, who)
        if ir.structural_hash(after) == kept:
            continue
        for one, other in zip(wanted, outputs(after, feeds), strict=True):
            assert_equal_outputs(one, other, rtol=0.0, atol=TOLERANCE, scaled=True, who=who)


@settings
@hypothesis.given(model=models())
def test_each_pass_keeps_the_outputs(model: onnx.ModelProto) -> None:
    check(model, {name: [make()] for name, make in EXACT_PASSES.items()})


@settings
@hypothesis.given(model=models(), data=st.data())
def test_pairs_of_passes_keep_the_outputs(model: onnx.ModelProto, data: st.DataObject) -> None:
    pair = st.lists(st.sampled_from(sorted(EXACT_PASSES)), min_size=2, max_size=2)
    pairs = data.draw(st.lists(pair, min_size=8, max_size=8))
    check(model, {" then ".join(p): [EXACT_PASSES[name]() for name in p] for p in pairs})


@settings
@hypothesis.given(model=models())
def test_the_lossless_recipe_keeps_the_outputs(model: onnx.ModelProto) -> None:
    registry = Registry(plugins=())
    entries = preset("lossless").passes
    steps = [instantiate(e, registry.pass_class(e.use)) for e in entries]
    check(model, {"lossless": steps})


@hypothesis.settings(settings, max_examples=200, phases=[hypothesis.Phase.generate])
@hypothesis.given(model=models())
def _collect(found: Counter[str], model: onnx.ModelProto) -> None:
    found.update(n.op_type for n in model.graph.node)


def test_the_graphs_are_of_many_operators() -> None:
    found: Counter[str] = Counter()
    _collect(found)
    assert len(found) >= FEWEST_OPERATORS, sorted(found)
