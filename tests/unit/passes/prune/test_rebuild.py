"""Rebuilding a pruned graph, on real runs of small graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.coupling import Axis, Cut
from graphopt.passes.prune.effort import Thoroughness
from graphopt.passes.prune.reconstruct.layer_norm import match_layer_norms
from graphopt.passes.prune.reconstruct.moments import moments_of
from graphopt.passes.prune.reconstruct.products import refit_consumers
from graphopt.passes.prune.reconstruct.rows import product_of
from graphopt.passes.prune.reconstruct.sequential import rebuild
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.runtime import open_session
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from graphopt.passes.prune.reconstruct.least_squares import Method

Array = np.ndarray[Any, Any]

MLP = """g (float[1, 6] x) => (float[1, 3] y)
<float[6, 12] w1, float[12] b1, float[12, 12] w2, float[12] b2, float[12, 3] w3>
{
    h1 = Gemm(x, w1, b1) r1 = Relu(h1)
    h2 = Gemm(r1, w2, b2) r2 = Relu(h2)
    y = MatMul(r2, w3)
}"""
RESIDUAL = """g (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y)
<float[4, 4, 3, 3] w0, float[8, 4, 3, 3] w1, float[8] b1, float[4, 8, 3, 3] w2,
 float[8, 4, 1, 1] w3, float[4, 8, 1, 1] w4>
{
    s = Conv <pads=[1, 1, 1, 1]> (x, w0)
    h1 = Conv <pads=[1, 1, 1, 1]> (s, w1, b1) r1 = Relu(h1)
    f1 = Conv <pads=[1, 1, 1, 1]> (r1, w2)
    t = Add(f1, s)
    h2 = Conv(t, w3) r2 = Relu(h2)
    f2 = Conv(r2, w4)
    y = Add(t, f2)
}"""
EVERY = lambda sample: True  # noqa: E731


def cut_of(model: ir.Graph, keeps: dict[tuple[str, ...], tuple[int, Array]]) -> Cut:
    """Return a cut of axes by the names of tensors: {names: (axis of each is given, keep)}."""
    return Cut({Axis(model.value(n), axis): k for ns, (axis, k) in keeps.items() for n in ns})


def keep(size: int, *gone: int) -> Array:
    mask = np.ones(size, dtype=bool)
    mask[list(gone)] = False
    return mask


def samples(model: ir.Graph, count: int, seed: int = 0) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        v.name: random.standard_normal((count, *(v.shape or ())[1:])).astype(np.float32)  # type: ignore[arg-type]
        for v in model.feeds
    }


def outputs(model: ir.Graph, data: dict[str, Array]) -> Array:
    session = open_session(model)
    name, rows = next(iter(data.items()))
    runs = [session.run({name: rows[i : i + 1]})[0] for i in range(len(rows))]
    return np.concatenate(runs)


def shrunk(model: ir.Graph, keeps: dict[tuple[str, ...], tuple[int, Array]]) -> ir.Graph:
    pruned = model.copy()
    remove_units(pruned, cut_of(pruned, keeps), {})
    ir.verify(pruned)
    return pruned


MLP_KEEPS: dict[tuple[str, ...], tuple[int, Array]] = {
    ("w1", "h1", "r1"): (1, keep(12, 1, 5, 7)),
    ("b1",): (0, keep(12, 1, 5, 7)),
    ("w2",): (0, keep(12, 1, 5, 7)),
    ("h2", "r2"): (1, keep(12, 0, 2)),
    ("b2",): (0, keep(12, 0, 2)),
    ("w3",): (0, keep(12, 0, 2)),
}


def mlp() -> tuple[ir.Graph, ir.Graph, Cut]:
    model = graph(MLP)
    ir.infer_shapes(model)
    pruned = shrunk(model, MLP_KEEPS)
    # One tensor may lose along two axes, which a dictionary by names cannot say.
    second: dict[tuple[str, ...], tuple[int, Array]] = {("w2",): (1, keep(12, 0, 2))}
    remove_units(pruned, cut_of(pruned, second), {})
    return model, pruned, cut_of(model, MLP_KEEPS | second)


def error(model: ir.Graph, pruned: ir.Graph, count: int = 40) -> float:
    data = samples(model, count, seed=9)
    wanted, found = outputs(model, data), outputs(pruned, data)
    return float(np.square(wanted - found).sum() / np.square(wanted - wanted.mean(axis=0)).sum())


def test_nothing_removed_leaves_the_outputs_as_they_are() -> None:
    model = graph(MLP)
    ir.infer_shapes(model)
    same = model.copy()
    ctx = context(data=samples(model, 300), model=model)
    done = rebuild(model, same, Cut({}), model.nodes(), ctx, EVERY)
    assert set(done.values()) == {"least-squares"}
    data = samples(model, 5, seed=3)
    np.testing.assert_allclose(outputs(same, data), outputs(model, data), rtol=1e-3, atol=1e-3)


def test_each_layer_is_fitted_on_what_the_pruned_graph_gives_it() -> None:
    model, pruned, cut = mlp()
    data = samples(model, 400)
    ctx = context(data=data, model=model)
    nodes = model.nodes("Gemm", "MatMul")[1:]
    how = Thoroughness(rectify=False)
    done = rebuild(model, pruned, cut, nodes, ctx, EVERY, ridge=0.0, how=how)
    assert len(done) == 2
    probe = pruned.copy()
    probe.set_outputs([probe.value("r1")])
    x = outputs(probe, data).astype(np.float64)
    wanted_probe = model.copy()
    wanted_probe.set_outputs([wanted_probe.value("h2")])
    y = outputs(wanted_probe, data)[:, keep(12, 0, 2)]
    wanted = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]
    np.testing.assert_allclose(pruned.value("w2").array(), wanted[:-1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(pruned.value("b2").array(), wanted[-1], rtol=1e-3, atol=1e-4)


def test_least_squares_beats_the_fallbacks() -> None:
    errors = {}
    methods: tuple[Method, ...] = ("least-squares", "statistics", "bias")
    for method in methods:
        model, pruned, cut = mlp()
        errors["none"] = error(model, pruned)
        ctx = context(data=samples(model, 400), model=model)
        done = rebuild(model, pruned, cut, model.nodes(), ctx, EVERY, method=method)
        assert set(done.values()) == {method}
        errors[method] = error(model, pruned)
    assert errors["least-squares"] < 0.6 * errors["bias"]
    assert errors["statistics"] < 1.1 * errors["none"]
    assert errors["bias"] < 1.1 * errors["none"]


def test_few_samples_fit_the_bias_only() -> None:
    model, pruned, cut = mlp()
    before = pruned.value("w2").array().copy()
    ctx = context(data=samples(model, 5), model=model)
    done = rebuild(model, pruned, cut, model.nodes("Gemm")[1:], ctx, EVERY)
    assert list(done.values()) == ["bias"]
    np.testing.assert_array_equal(pruned.value("w2").array(), before)


def test_only_the_chosen_samples_are_fitted_to() -> None:
    first, second = mlp(), mlp()
    data = samples(first[0], 200)
    half = {"x": data["x"][::2]}
    nodes = ("Gemm", "MatMul")
    ctx = context(data=data, model=first[0])
    rebuild(*first, first[0].nodes(*nodes), ctx, lambda sample: sample % 2 == 0)
    ctx = context(data=half, model=second[0])
    rebuild(*second, second[0].nodes(*nodes), ctx, EVERY)
    for name in ("w2", "b2", "w3"):
        one, other = first[1].value(name).array(), second[1].value(name).array()
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_order_of_samples_does_not_matter() -> None:
    made = []
    for order in (slice(None), slice(None, None, -1)):
        model, pruned, cut = mlp()
        data = {"x": samples(model, 150)["x"][order]}
        ctx = context(data=data, model=model)
        # Which samples are left out to choose a ridge by goes by their numbers.
        rebuild(model, pruned, cut, model.nodes(), ctx, EVERY, method="statistics")
        made.append(outputs(pruned, samples(model, 20, seed=4)))
    np.testing.assert_allclose(made[0], made[1], atol=1e-6 * np.abs(made[0]).max() * 10)


def test_the_same_twice() -> None:
    made = []
    for _ in range(2):
        model, pruned, cut = mlp()
        ctx = context(data=samples(model, 150), model=model)
        rebuild(model, pruned, cut, reversed(model.nodes()), ctx, EVERY)
        made.append([v.array().tobytes() for v in pruned.initializers])
    assert made[0] == made[1]


def residual() -> tuple[ir.Graph, ir.Graph, Cut]:
    model = graph(RESIDUAL)
    ir.infer_shapes(model)
    keeps: dict[tuple[str, ...], tuple[int, Array]] = {
        ("h1", "r1"): (1, keep(8, 0, 3, 4)),
        ("w1", "b1"): (0, keep(8, 0, 3, 4)),
        ("w2",): (1, keep(8, 0, 3, 4)),
        ("h2", "r2"): (1, keep(8, 1, 2)),
        ("w3",): (0, keep(8, 1, 2)),
        ("w4",): (1, keep(8, 1, 2)),
    }
    return model, shrunk(model, keeps), cut_of(model, keeps)


def test_the_end_of_a_branch_makes_up_for_what_the_skip_lost() -> None:
    errors = {}
    for compensate in (False, True):
        model, pruned, cut = residual()
        ctx = context(data=samples(model, 60), model=model)
        # The first branch is not fitted: what it got wrong is in the skip of the second.
        node = model.value("f2").producer
        assert node is not None
        rebuild(model, pruned, cut, [node], ctx, EVERY, compensate=compensate)
        errors[compensate] = error(model, pruned, 20)
    assert errors[True] < errors[False]


def test_closed_form_from_the_originals_moments() -> None:
    model, pruned, cut = residual()
    bare = error(model, pruned, 20)
    ctx = context(data=samples(model, 60), model=model)
    moments = moments_of(model, model.nodes("Conv"), ctx, EVERY)
    assert set(moments) == set(model.nodes("Conv"))
    done = refit_consumers(model, pruned, cut, moments)
    assert len(done) == 2
    ir.verify(pruned)
    assert error(model, pruned, 20) < bare


def test_moments_of_sampled_rows_are_close_to_those_of_all() -> None:
    model = graph(
        """g (float[1, 2, 40, 40] x) => (float[1, 3, 40, 40] y) <float[3, 2, 3, 3] w>
        { y = Conv <pads=[1, 1, 1, 1]> (x, w) }"""
    )
    ir.infer_shapes(model)
    data = samples(model, 60)
    node = model.nodes()[0]
    found = moments_of(model, [node], context(data=data, model=model), EVERY)[node]
    assert found.rows == 60 * 64
    assert found.samples == 60
    product = product_of(node)
    assert product is not None
    every = product.inputs(data["x"], (40, 40), np.arange(60 * 1600))[0].astype(np.float64)
    np.testing.assert_allclose(found.second[0], every.T @ every / len(every), atol=0.08)


def test_without_data_nothing_is_done() -> None:
    model, pruned, cut = mlp()
    before = [v.array().tobytes() for v in pruned.initializers]
    assert rebuild(model, pruned, cut, model.nodes(), context(), EVERY) == {}
    assert moments_of(model, model.nodes(), context(), EVERY) == {}
    assert [v.array().tobytes() for v in pruned.initializers] == before


def test_shared_weights_are_left_alone() -> None:
    model = graph(
        """g (float[1, 6] x) => (float[1, 6] y) <float[6, 6] w, float[6] b>
        { h = Gemm(x, w, b) r = Relu(h) y = MatMul(r, w) }"""
    )
    ir.infer_shapes(model)
    ctx = context(data=samples(model, 100), model=model)
    assert rebuild(model, model.copy(), Cut({}), model.nodes(), ctx, EVERY) == {}


def test_a_bias_is_made_where_there_is_none() -> None:
    model, pruned, cut = residual()
    node = pruned.value("f1").producer
    assert node is not None
    before = len(node.inputs)
    ctx = context(data=samples(model, 60), model=model)
    rebuild(model, pruned, cut, model.nodes("Conv"), ctx, EVERY)
    assert (before, len(node.inputs)) == (2, 3)
    ir.verify(pruned)


@pytest.mark.parametrize("has_beta", [True, False])
def test_normalizations_are_matched(has_beta: bool) -> None:
    beta = ", beta" if has_beta else ""
    model = graph(
        f"""g (float[1, 5, 8] x) => (float[1, 5, 3] y)
        <float[8, 8] w, float[8] gain, float[8] beta, float[8, 3] v>
        {{ h = MatMul(x, w) n = LayerNormalization <axis=-1> (h, gain{beta}) y = MatMul(n, v) }}"""
    )
    ir.infer_shapes(model)
    mask = keep(8, 2, 6)
    keeps: dict[tuple[str, ...], tuple[int, Array]] = {
        ("h", "n"): (2, mask),
        ("w",): (1, mask),
        ("gain", "beta") if has_beta else ("gain",): (0, mask),
        ("v",): (0, mask),
    }
    pruned = shrunk(model, keeps)
    data = samples(model, 200)
    ctx = context(data=data, model=model)

    def gap(tensors: ir.Graph) -> tuple[float, float]:
        probe, wanted = tensors.copy(), model.copy()
        probe.set_outputs([probe.value("n")])
        wanted.set_outputs([wanted.value("n")])
        x, y = outputs(probe, data).reshape(-1, 6), outputs(wanted, data).reshape(-1, 8)[:, mask]
        means = float(np.abs(x.mean(axis=0) - y.mean(axis=0)).max())
        powers = np.abs((x**2).mean(axis=0) - (y**2).mean(axis=0)).max()
        return means, float(powers)

    before = gap(pruned)
    assert len(match_layer_norms(model, pruned, cut_of(model, keeps), ctx, EVERY)) == 1
    after = gap(pruned)
    assert after[1] < 0.5 * before[1]
    if has_beta:
        assert after[0] < 1e-4
