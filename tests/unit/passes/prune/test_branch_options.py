"""Depth units: what stands in the place of a branch, and how it is fitted."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.analysis.branches import residual_branches
from graphopt.analysis.chains import linear_runs
from graphopt.errors import ModelError
from graphopt.passes.prune.branches.fit import Fitted, fit_branches
from graphopt.passes.prune.branches.linear import Kind
from graphopt.passes.prune.branches.options import BranchOption, branch_options, obstacles
from graphopt.passes.prune.reconstruct.walk import walks
from graphopt.testing import assert_same_outputs, context, graph, run
from tests.unit.passes.prune.test_branches import DOWN, NESTED, PLAIN, RUN, TRANSFORMER

if TYPE_CHECKING:
    from pathlib import Path

LINEAR = """
    agraph (float[N, 4, 8, 8] x) => (float[N, 6, 4, 4] z)
    <float[6, 4, 1, 1] w3, float[5, 4, 3, 3] w1, float[5] b1, float[6, 5, 1, 1] w2>
    {
        s = Conv<strides = [2, 2]>(x, w3)
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w1, b1)
        f = Conv(a, w2)
        y = Add(f, s)
        z = Relu(y)
    }
"""
ROWS = """
    agraph (float[N, T, 8] x) => (float[N, T, 8] y)
    <float[8, 5] w1, float[5] b, float[5, 8] w2>
    { a = MatMul(x, w1) c = Add(a, b) f = MatMul(c, w2) y = Add(x, f) }
"""
SKIP = """
    <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
    agraph (float[N, 3, 8] x) => (float[N, 3, 8] y)
    <float[8, 8] w, float[8] g, float[8] c, float[8] d>
    {
        a = MatMul(x, w)
        f = Relu(a)
        y = com.microsoft.SkipLayerNormalization<epsilon = 0.001>(f, x, g, c, d)
    }
"""


def data_for(model: ir.Graph, count: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = {v.name: [d if isinstance(d, int) else 5 for d in v.shape or ()] for v in model.feeds}
    return {
        name: random.standard_normal((count, *size[1:])).astype(np.float32)
        for name, size in sizes.items()
    }


def fitted(text: str, count: int = 60) -> tuple[ir.Graph, dict[str, Fitted]]:
    model = graph(text)
    ir.infer_shapes(model)
    given = context(data=data_for(model, count), model=model)
    return model, fit_branches(model, residual_branches(model), given, lambda _: True)


def edited(model: ir.Graph, fits: dict[str, Fitted], *chosen: tuple[str, Kind]) -> ir.Graph:
    made = model.copy()
    by_name = {b.name: b for b in residual_branches(model)}
    for name, kind in chosen:
        BranchOption(kind, by_name[name]).apply(made, fits[name])
    ir.verify(made)
    return made


@pytest.mark.parametrize("text", [PLAIN, DOWN, TRANSFORMER, NESTED, LINEAR, ROWS, SKIP])
def test_every_option_is_legal_and_keeps_shapes(text: str) -> None:
    model, fits = fitted(text)
    feed = {k: v[:2] for k, v in data_for(model, seed=1).items()}
    expected = [out.shape for out in run(model, feed)]
    tried = 0
    for branch in residual_branches(model):
        for option in branch_options(branch, fits[branch.name]):
            made = edited(model, fits, (branch.name, option.kind))
            assert [out.shape for out in run(made, feed)] == expected, option.kind
            assert all(v.uses or v.is_output for v in made.initializers), option.kind
            tried += 1
    assert tried >= 3


def test_options_do_not_touch_the_original() -> None:
    model, fits = fitted(PLAIN)
    before = ir.structural_hash(model)
    edited(model, fits, ("f", Kind.LIN3))
    assert ir.structural_hash(model) == before


def test_removed_branch_is_the_graph_without_it() -> None:
    model, fits = fitted(PLAIN)
    alone = graph("agraph (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] z) { z = Relu(x) }")
    made = edited(model, fits, ("f", Kind.REMOVE))
    assert [n.op for n in made.nodes()] == ["Identity", "Relu"]
    feeds = [{"x": data_for(model)["x"][:2]}]
    assert_same_outputs(alone, made, feeds, rtol=0.0, atol=0.0)


def test_dropped_branch_is_the_skip_and_a_mean() -> None:
    model, fits = fitted(PLAIN)
    x = data_for(model)["x"]
    f = run(ir.extract(model, [], ["f"]), {"x": x})[0]
    mean = f.mean(axis=(0, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(fits["f"].mean, mean, rtol=1e-4, atol=1e-5)
    hand = graph(
        """
        agraph (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] z) <float[4, 1, 1] m>
        { y = Add(x, m) z = Relu(y) }
        """,
        m=mean.astype(np.float32).reshape(4, 1, 1),
    )
    made = edited(model, fits, ("f", Kind.DROP))
    assert [n.op for n in made.nodes()] == ["Add", "Relu"]
    assert_same_outputs(hand, made, [{"x": x[:2]}], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Kind.LIN3, Kind.MERGED3])
def test_a_linear_branch_of_convolutions_is_found_exactly(kind: Kind) -> None:
    model, fits = fitted(LINEAR)
    made = edited(model, fits, ("f", kind))
    feed = {k: v[:2] for k, v in data_for(model, seed=1).items()}
    expected, found = run(model, feed)[0], run(made, feed)[0]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert fits["f"].linears[kind].error < 1e-6
    count = {Kind.LIN3: 2, Kind.MERGED3: 1}[kind]
    assert len(made.nodes("Conv")) == count
    assert len(made.nodes("Add")) == count - 1


@pytest.mark.parametrize("kind", [Kind.LIN1, Kind.MERGED1])
def test_a_linear_branch_of_products_is_found_exactly(kind: Kind) -> None:
    model, fits = fitted(ROWS)
    made = edited(model, fits, ("f", kind))
    feed = {k: v[:2] for k, v in data_for(model, seed=1).items()}
    expected, found = run(model, feed)[0], run(made, feed)[0]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert len(made.nodes("MatMul")) == 1


def test_merged_says_the_same_as_beside_the_skip() -> None:
    model, fits = fitted(PLAIN)
    feeds = [{k: v[:2] for k, v in data_for(model, seed=1).items()}]
    for beside, merged in ((Kind.LIN1, Kind.MERGED1), (Kind.LIN3, Kind.MERGED3)):
        one = edited(model, fits, ("f", beside))
        other = edited(model, fits, ("f", merged))
        assert not other.nodes("Add")
        assert_same_outputs(one, other, feeds, rtol=1e-4, atol=1e-4)


def test_more_freedom_never_has_a_larger_error() -> None:
    fits = fitted(PLAIN)[1]["f"].linears
    assert fits[Kind.LIN3].error <= fits[Kind.LIN1].error <= 1.01


def test_normalization_behind_the_addition_stays() -> None:
    model, fits = fitted(SKIP)
    feed = {k: v[:2] for k, v in data_for(model, seed=1).items()}
    made = edited(model, fits, ("f", Kind.DROP))
    x, d = feed["x"], model.value("d").array()
    rows = x + d + np.asarray(fits["f"].mean, dtype=np.float32)
    centred = rows - rows.mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-3)
    expected = normal * model.value("g").array() + model.value("c").array()
    np.testing.assert_allclose(run(made, feed)[0], expected, rtol=1e-4, atol=1e-4)
    removed = edited(model, fits, ("f", Kind.REMOVE))
    assert [n.op for n in removed.nodes()] == ["Add", "LayerNormalization"]
    assert "does more" in obstacles(residual_branches(model)[0], fits["f"])[Kind.MERGED1]


def test_options_of_different_branches_in_any_order() -> None:
    model, fits = fitted(TRANSFORMER)
    feeds = [{k: v[:2] for k, v in data_for(model, seed=1).items()}]
    kinds = (Kind.REMOVE, Kind.DROP, Kind.LIN1, Kind.MERGED1)
    for one, other in product(kinds, kinds):
        first = edited(model, fits, ("attention", one), ("ffn", other))
        second = edited(model, fits, ("ffn", other), ("attention", one))
        assert_same_outputs(first, second, feeds, rtol=0.0, atol=0.0)


def test_an_error_of_the_skip_is_made_up_for() -> None:
    model = graph(ROWS)
    ir.infer_shapes(model)
    short = model.copy()
    entry = short.value("x")
    # The skip is off by a tenth of the input; x itself, which the branch reads, is not.
    node = short.value("y").producer
    assert node is not None
    factor = short.add_constant("tenth", np.float32(1.1))
    node.set_input(0, short.add_node("Mul", [entry, factor], ["off"]).outputs[0])
    short.sort()
    ir.infer_shapes(short)
    (branch,) = residual_branches(short)
    assert branch.skip.name == "off"
    reference = model.copy()
    reference.add_node("Identity", [reference.value("x")], ["off"])
    given = context(data=data_for(model), model=model)
    through = walks([(reference, ["off", "f"]), (short, ["off", "x"])], given, lambda _: True)
    fits = fit_branches(short, [branch], given, lambda _: True, (through[0], through[1]))
    BranchOption(Kind.LIN1, branch).apply(short, fits["f"])
    feeds = [{k: v[:2] for k, v in data_for(model, seed=1).items()}]
    assert_same_outputs(model, short, feeds, rtol=1e-3, atol=1e-3)


def test_runs_of_layers_without_a_skip() -> None:
    model = graph(RUN)
    ir.infer_shapes(model)
    runs = linear_runs(model)
    given = context(data=data_for(model), model=model)
    fits = fit_branches(model, runs, given, lambda _: True)
    assert len(fits) == len(runs) == 3
    feed = {k: v[:2] for k, v in data_for(model, seed=1).items()}
    for chain, kind in product(runs, (Kind.LIN1, Kind.LIN3)):
        assert Kind.REMOVE in obstacles(chain, fits[chain.name])
        made = model.copy()
        BranchOption(kind, chain).apply(made, fits[chain.name])
        ir.verify(made)
        assert run(made, feed)[0].shape == (2, 5, 4, 4)


def test_a_linear_run_is_found_exactly() -> None:
    model = graph(LINEAR)
    ir.infer_shapes(model)
    branch = next(b for b in residual_branches(model) if b.name == "f")
    (chain,) = [r for r in linear_runs(model) if r.nodes == branch.nodes]
    given = context(data=data_for(model), model=model)
    fits = fit_branches(model, [chain], given, lambda _: True)
    made = model.copy()
    BranchOption(Kind.LIN3, chain).apply(made, fits[chain.name])
    feeds = [{k: v[:2] for k, v in data_for(model, seed=1).items()}]
    assert_same_outputs(model, made, feeds, rtol=1e-3, atol=1e-3)


def test_few_rows_are_declined_with_a_reason() -> None:
    model, fits = fitted(PLAIN, count=4)
    assert "are too few: 36 features need 360" in fits["f"].declined[Kind.LIN3]
    assert set(fits["f"].linears) == {Kind.LIN1, Kind.MERGED1}
    with pytest.raises(ModelError, match="nothing was fitted"):
        edited(model, fits, ("f", Kind.LIN3))


def test_only_samples_that_are_for_fitting_are_used() -> None:
    model = graph(PLAIN)
    ir.infer_shapes(model)
    data = data_for(model)
    data["x"][30:] = 3e38
    found = residual_branches(model)
    good = fit_branches(model, found, context(data=data, model=model), lambda i: i < 30)
    bad = fit_branches(model, found, context(data=data, model=model), lambda _: True)
    assert good["f"].linears
    assert set(bad["f"].declined.values()) == {"no sample gave finite values"}


def test_without_data_only_removal_is_left() -> None:
    model = graph(PLAIN)
    ir.infer_shapes(model)
    (branch,) = residual_branches(model)
    fits = fit_branches(model, [branch], context(), lambda _: True)
    assert [o.kind for o in branch_options(branch, fits["f"])] == [Kind.REMOVE]


def test_the_same_inputs_give_the_same_bytes() -> None:
    one, other = fitted(PLAIN), fitted(PLAIN)
    made = [ir.to_bytes(edited(m, f, ("f", Kind.LIN3))) for m, f in (one, other)]
    assert made[0] == made[1]


def test_a_branch_that_is_gone_is_an_error() -> None:
    model, fits = fitted(NESTED)
    with pytest.raises(ModelError, match="no tensor `inner`"):
        edited(model, fits, ("f", Kind.LIN1), ("inner", Kind.DROP))


def test_resnet_blocks(shared: Path) -> None:
    model = ir.load(shared / "models" / "cifar10_resnet20.onnx")
    ir.infer_shapes(model)
    images = np.load(shared / "data" / "cifar10_dev.npz")["calib_x"][:24]
    x = (images.transpose(0, 3, 1, 2) / 128.0 - 1.0).astype(np.float32)
    found = [b for b in residual_branches(model) if "layer1.0" in b.name or "layer2.0" in b.name]
    assert len(found) == 2
    given = context(data={"input": x}, model=model)
    fits = fit_branches(model, found, given, lambda i: i < 16)
    expected = run(model, {"input": x[16:]})[0].shape
    for branch in found:
        kinds = [o.kind for o in branch_options(branch, fits[branch.name])]
        assert Kind.LIN1 in kinds
        assert Kind.MERGED1 in kinds
        assert fits[branch.name].linears[Kind.LIN1].error < 1.0
        made = model.copy()
        BranchOption(Kind.MERGED1, branch).apply(made, fits[branch.name])
        ir.verify(made)
        assert run(made, {"input": x[16:]})[0].shape == expected
        assert len(made.nodes("Add")) == len(model.nodes("Add")) - 1
