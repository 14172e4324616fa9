"""Models that broke other tools: every exact pass on its own, and all of them, keep the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.api.compiler import compile_model
from graphopt.runtime import open_session
from graphopt.testing import context, graph, random_feeds
from tests.backend.exact import EXACT_PASSES, assert_equal_outputs
from tests.regressions.threads import THREADS, Thread

if TYPE_CHECKING:
    from graphopt.ir import Graph

TOLERANCE = 1e-4
"""Relative to the largest output: what the pipeline promises of exact passes."""
SIZES = (1, 2, 3)


def feeds_of(model: Graph, thread: Thread) -> list[dict[str, Any]]:
    """Return feeds at several sizes of every open dimension."""
    mean, deviation = thread.spread
    return [
        {
            k: np.asarray(v * deviation + mean, v.dtype) if v.dtype.kind == "f" else v
            for k, v in feed.items()
        }
        for size in SIZES
        for feed in random_feeds(model, seed=size, size=size)
    ]


def outputs(model: Graph, feeds: list[dict[str, Any]]) -> list[list[Any]]:
    """Execute without the runtime's own optimisations, whose mistakes are not ours."""
    session = open_session(model, optimize=False)
    return [session.run(feed) for feed in feeds]


@pytest.mark.parametrize("thread", THREADS, ids=lambda t: t.name)
def test_every_exact_pass_alone_keeps_the_outputs(thread: Thread) -> None:
    before = graph(thread.text, opset=thread.opset)
    feeds = feeds_of(before, thread)
    wanted = outputs(before, feeds)
    for name, make in EXACT_PASSES.items():
        after = before.copy()
        result = make().run(after, context())
        after.sort()
        ir.verify(after)
        changed = ir.structural_hash(after) != ir.structural_hash(before)
        assert result.modified == changed, name
        for one, other in zip(wanted, outputs(after, feeds) if changed else wanted, strict=True):
            assert_equal_outputs(one, other, rtol=0.0, atol=TOLERANCE, scaled=True, who=name)


@pytest.mark.parametrize("thread", THREADS, ids=lambda t: t.name)
def test_the_whole_pipeline_keeps_the_outputs(thread: Thread) -> None:
    before = graph(thread.text, opset=thread.opset)
    feeds = feeds_of(before, thread)
    compiled = compile_model(before.copy(), recipe="lossless", measure=False)
    assert [p.name for p in compiled.report.passes if p.status == "rolled back"] == []
    for one, other in zip(outputs(before, feeds), outputs(compiled.graph, feeds), strict=True):
        assert_equal_outputs(one, other, rtol=0.0, atol=TOLERANCE, scaled=True, who="lossless")
    names = [[v.name for v in g.outputs] for g in (before, compiled.graph)]
    assert names[0] == names[1], "an output disappeared (onnxsim/onnxsim#227)"


@pytest.mark.parametrize("thread", THREADS, ids=lambda t: t.name)
def test_a_second_compile_changes_nothing(thread: Thread) -> None:
    """microsoft/onnxscript#1466: a second run defined names twice."""
    first = compile_model(graph(thread.text, opset=thread.opset), recipe="lossless", measure=False)
    second = compile_model(first.graph.copy(), recipe="lossless", measure=False)
    assert [p.name for p in second.report.passes if p.status != "unchanged"] == []
    assert ir.structural_hash(second.graph) == ir.structural_hash(first.graph)


@pytest.mark.parametrize("op", ["Tile", "ConstantOfShape", "Expand"])
def test_what_would_fill_the_disk_stays_computed(op: str) -> None:
    """onnxsim/onnxsim#178, #272, #291: folding made files larger than protobuf can hold."""
    made = {
        "Tile": "Tile (k, sizes)",
        "ConstantOfShape": "ConstantOfShape (sizes)",
        "Expand": "Expand (k, sizes)",
    }[op]
    before = graph(
        f"""m (float[4096, 4096] x) => (float[4096, 4096] y)
        <int64[2] sizes = {{4096, 4096}}, float[1, 1] k = {{2.0}}> {{
          a = {made}
          y = Add (x, a)
        }}"""
    )
    after = before.copy()
    EXACT_PASSES["fold-constants"]().run(after, context())
    assert ir.tensor_bytes(after) < 1024
    assert [n.op for n in after.nodes()] == [op, "Add"]


def test_folded_values_are_their_own() -> None:
    """microsoft/onnxruntime#29788: what was folded pointed into memory that was given back."""
    before = graph(
        """m (float[6] x) => (float[6] y) <float[2, 3] k, int64[1] flat = {-1}> {
          a = Reshape (k, flat)
          y = Add (x, a) }"""
    )
    kept = np.array(before.value("k").array()).reshape(-1)
    EXACT_PASSES["fold-constants"]().run(before, context())
    EXACT_PASSES["eliminate-dead"]().run(before, context())
    stored = next(v for v in before.initializers)
    assert [n.op for n in before.nodes()] == ["Add"]
    assert stored.array().base.flags.owndata
    assert np.array_equal(stored.array(), kept)
