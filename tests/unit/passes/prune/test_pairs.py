"""Both products around a narrowed activation, fitted together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.analysis.coupling.rules import BUILTIN_RULES
from graphopt.passes.prune.narrow import narrowed
from graphopt.passes.prune.reconstruct import pairs, sequential
from graphopt.passes.prune.reconstruct.pair_rows import Crops, pair_of
from graphopt.passes.prune.reconstruct.sequential import rebuild
from graphopt.passes.prune.reconstruct.walk import walks
from graphopt.runtime import open_session
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from graphopt.analysis.coupling import Cut
    from graphopt.passes.prune.reconstruct.pair_rows import Pair, PairRows

Array = np.ndarray[Any, Any]
Made = tuple["ir.Graph", "ir.Graph", "Cut"]

RULES = {rule.name: rule for rule in BUILTIN_RULES}
BLOCK = """g (float[n, 6, 9, 9] x) => (float[n, 6, 9, 9] y)
<float[12, 6, 3, 3] w1, float[12] b1, float[6, 12, 3, 3] w2, float[6] b2>
{
    h = Conv <pads=[1, 1, 1, 1]> (x, w1, b1) r = Relu(h)
    f = Conv <pads=[1, 1, 1, 1]> (r, w2, b2)
    t = Add(f, x) y = Relu(t)
}"""
STRIDED = """g (float[n, 6, 9, 9] x) => (float[n, 4, 3, 3] y)
<float[12, 6, 3, 3] w1, float[12] b1, float[4, 12, 2, 2] w2, float[4] b2,
 float low = {0.0}, float high = {1.5}>
{
    h = Conv <strides=[2, 2], auto_pad="SAME_UPPER"> (x, w1, b1) r = Clip(h, low, high)
    y = Conv <pads=[0, 1, 1, 0], strides=[2, 2]> (r, w2, b2)
}"""
DEEP = """g (float[n, 6, 9, 9] x) => (float[n, 6, 9, 9] y)
<float[12, 6, 1, 1] w0, float[12] b0, float[12, 1, 3, 3] w1, float[12] b1,
 float[6, 12, 1, 1] w2, float[6] b2>
{
    e = Conv(x, w0, b0) q = Relu(e)
    h = Conv <pads=[1, 1, 1, 1], group=12> (q, w1, b1) r = Relu(h)
    f = Conv(r, w2, b2)
    y = Add(f, x)
}"""
MLP = """g (float[n, 6] x) => (float[n, 3] y)
<float[6, 12] w1, float[12] b1, float[12, 3] w2, float[3] b2>
{
    h = Gemm(x, w1, b1) r = Relu(h) y = Gemm(r, w2, b2)
}"""
ALL = {"block": BLOCK, "strided": STRIDED, "deep": DEEP, "mlp": MLP}
KEPT = 5


def samples(model: ir.Graph, count: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    shape = [count, *(d for d in model.feeds[0].shape or () if isinstance(d, int))]
    return {"x": random.standard_normal(shape).astype(np.float32)}


def made(text: str, kept: int = KEPT) -> Made:
    """Return a graph, the same with fewer hidden units, and the cut."""
    model = graph(text)
    ir.infer_shapes(model)
    coupling = couple(model, RULES)
    (group,) = coupling.groups
    cut = coupling.cut({group.name: np.arange(group.size) < kept})
    return model, narrowed(model, cut, context(model=model)), cut


def pair_in(original: ir.Graph, pruned: ir.Graph, cut: Cut) -> Pair:
    nodes = original.nodes("Conv", "Gemm")
    triples = sequential._pairs(original, pruned, cut, nodes)
    seconds = {triple[1].node: triple for triple in triples}
    first = next(triple[1] for triple in triples if triple[1].output.name == "h")
    found = pair_of(first, seconds, lambda value: False)
    assert found is not None
    return found


def rows_of(pair: Pair, original: ir.Graph, pruned: ir.Graph, count: int) -> PairRows:
    ctx = context(data=samples(original, count), model=original)
    crops = Crops(pair)
    graphs = [(original, [pair.layer.total]), (pruned, crops.read)]
    one, other = walks(graphs, ctx, lambda sample: True)
    wanted, given = one.tensors([pair.layer.total]), other.tensors(crops.read)
    for targets, values in zip(wanted, given, strict=True):
        crops.take(values, targets, 0)
    rows = crops.rows()
    assert rows is not None
    return rows


@pytest.mark.parametrize("name", ALL)
def test_rows_of_a_pair_make_what_the_graph_makes(name: str) -> None:
    original, same, cut = made(ALL[name], kept=12)
    pair = pair_in(original, same, cut)
    rows = rows_of(pair, original, same, 12)
    problem = pairs._Problem(pair, rows)
    every = np.ones(len(rows.totals), dtype=bool)
    missed = problem.residual(problem.hidden(problem.pre(problem.v, problem.c)), every)
    assert np.abs(missed).max() <= 1e-4 * np.abs(rows.totals).max()
    assert rows.left_out.any()
    assert not rows.left_out.all()


@pytest.mark.parametrize("name", ALL)
def test_weights_survive_whitening(name: str) -> None:
    original, pruned, cut = made(ALL[name])
    pair = pair_in(original, pruned, cut)
    found = pairs._Problem(pair, rows_of(pair, original, pruned, 12)).weights((0.0, 0.0))
    np.testing.assert_allclose(found.first, pair.first.matrix(), atol=1e-4)
    np.testing.assert_allclose(found.first_bias, pair.first.bias(), atol=1e-4)
    np.testing.assert_allclose(found.second, pair.second.matrix(), atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_the_transpose_of_changes(name: str) -> None:
    """<J v, r> = <v, J^T r>, and J v is what a small change does between the limits."""
    original, pruned, cut = made(ALL[name])
    pair = pair_in(original, pruned, cut)
    problem = pairs._Problem(pair, rows_of(pair, original, pruned, 12))
    random = np.random.default_rng(1)
    pre = problem.pre(problem.v, problem.c)
    low, high = pair.limits
    slope = ((pre > low) & (pre < high)).astype(np.float32)
    v = random.standard_normal(problem.v.shape).astype(np.float32)
    c = random.standard_normal(problem.c.shape).astype(np.float32)
    seen = problem._forward(v, c, slope)
    other = random.standard_normal(seen.shape).astype(np.float32)
    back = problem._backward(other, slope)
    forth = float(np.vdot(seen, other))
    assert pairs._dot((v, c), back) == pytest.approx(forth, rel=1e-3, abs=1e-2)
    small = np.float32(1e-3)
    moved = problem.hidden(problem.pre(problem.v + small * v, problem.c + small * c))
    change = problem.product(moved, problem.fitted)
    change = (change - problem.product(problem.hidden(pre), problem.fitted)) / small
    # A few units cross a limit on the way.
    assert np.median(np.abs(change - seen)) <= 0.02 * np.abs(seen).max()


@pytest.mark.parametrize("name", ALL)
def test_a_pair_does_better_than_its_layers_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = samples(graph(ALL[name]), 40, seed=9)
    errors = []
    for alone in (True, False):
        original, pruned, cut = made(ALL[name])
        with monkeypatch.context() as patch:
            if alone:
                patch.setattr(sequential, "fit_pair", lambda *_: None)
            ctx = context(data=samples(original, 400), model=original)
            rebuild(original, pruned, cut, original.nodes(), ctx, lambda sample: True)
        wanted, found = (open_session(g).run(fresh)[0] for g in (original, pruned))
        errors.append(float(np.square(wanted - found).mean()))
    share = {"block": 0.85, "mlp": 0.85, "deep": 0.97, "strided": 0.98}[name]
    assert errors[1] < share * errors[0]


def test_nothing_is_gained_where_nothing_is_missed() -> None:
    original, same, cut = made(BLOCK, kept=12)
    pair = pair_in(original, same, cut)
    found = pairs.fit_pair(pair, rows_of(pair, original, same, 12))
    assert found is None or found.errors[1] <= found.errors[0] <= 1e-6


def test_noise_is_not_fitted() -> None:
    original, pruned, cut = made(MLP)
    pair = pair_in(original, pruned, cut)
    rows = rows_of(pair, original, pruned, 24)
    rows.totals[:] = np.random.default_rng(5).standard_normal(rows.totals.shape)
    found = pairs.fit_pair(pair, rows)
    assert found is None or found.errors[1] < found.errors[0]


def test_a_hidden_tensor_that_others_read_is_no_pair() -> None:
    text = MLP.replace("float[n, 3] y)", "float[n, 3] y, float[n, 12] r)")
    model = graph(text)
    ir.infer_shapes(model)
    triples = sequential._pairs(model, model, couple(model, RULES).cut({}), model.nodes("Gemm"))
    seconds = {triple[1].node: triple for triple in triples}
    assert pair_of(triples[0][1], seconds, lambda value: False) is None


def test_the_same_twice() -> None:
    found = []
    for _ in range(2):
        original, pruned, cut = made(BLOCK)
        ctx = context(data=samples(original, 60), model=original)
        rebuild(original, pruned, cut, original.nodes(), ctx, lambda sample: True)
        found.append(b"".join(v.array().tobytes() for v in pruned.initializers))
    assert found[0] == found[1]
