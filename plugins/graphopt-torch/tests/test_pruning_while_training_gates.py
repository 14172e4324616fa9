"""Closed gates are removed units: for chains, sums, concats, groups, attention and integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program
from graphopt_torch.pruning.compensation import compensate, readers_of
from graphopt_torch.pruning.gates import Gates
from graphopt_torch.pruning.group_lasso import group_lasso
from graphopt_torch.pruning.importance import unit_scores
from graphopt_torch.pruning.removed import removed
from graphopt_torch.pruning.sites import kept_units, training_sites

from graphopt import ir
from graphopt.analysis.coupling import couple
from graphopt.testing import context, graph

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.testing import Recorder

Array = np.ndarray[Any, Any]

CHAIN = """g (float[2, 3, 6, 6] x) => (float[2, 5] y)
<float[16, 3, 3, 3] w1, float[16] b1, float[8, 16, 3, 3] w2, float[8] b2, float[8, 5] w3>
{
    h1 = Conv <pads=[1, 1, 1, 1]> (x, w1, b1) r1 = Relu(h1)
    h2 = Conv <pads=[1, 1, 1, 1]> (r1, w2, b2) r2 = Relu(h2)
    p = GlobalAveragePool(r2) f = Flatten(p)
    y = MatMul(f, w3)
}"""
RESIDUAL = """g (float[2, 3, 6, 6] x) => (float[2, 5] y)
<float[8, 3, 3, 3] w0, float[16, 8, 3, 3] w1, float[16] b1, float[8, 16, 3, 3] w2, float[8, 5] w3>
{
    s = Conv <pads=[1, 1, 1, 1]> (x, w0)
    h1 = Conv <pads=[1, 1, 1, 1]> (s, w1, b1) r1 = Relu(h1)
    f1 = Conv <pads=[1, 1, 1, 1]> (r1, w2)
    t = Add(f1, s)
    p = GlobalAveragePool(t) f = Flatten(p)
    y = MatMul(f, w3)
}"""
DEPTHWISE = """g (float[2, 3, 6, 6] x) => (float[2, 5, 6, 6] y)
<float[16, 3, 1, 1] w1, float[16, 1, 3, 3] w2, float[16] b2, float[5, 16, 1, 1] w3>
{
    h1 = Conv(x, w1) r1 = Sigmoid(h1)
    h2 = Conv <pads=[1, 1, 1, 1], group=16> (r1, w2, b2) r2 = HardSwish(h2)
    y = Conv(r2, w3)
}"""
GROUPED = """g (float[2, 3, 6, 6] x) => (float[2, 5, 6, 6] y)
<float[16, 3, 1, 1] w1, float[16, 8, 3, 3] w2, float[5, 16, 1, 1] w3>
{
    h1 = Conv(x, w1) r1 = Relu(h1)
    h2 = Conv <pads=[1, 1, 1, 1], group=2> (r1, w2) r2 = Relu(h2)
    y = Conv(r2, w3)
}"""
CONCAT = """g (float[2, 3, 6, 6] x) => (float[2, 5, 6, 6] y)
<float[16, 3, 1, 1] w1, float[8, 3, 3, 3] w2, float[5, 27, 1, 1] w3>
{
    h1 = Conv(x, w1) r1 = Relu(h1)
    h2 = Conv <pads=[1, 1, 1, 1]> (x, w2) r2 = Sigmoid(h2)
    c = Concat <axis=1> (r1, x, r2)
    y = Conv(c, w3)
}"""
FEED_FORWARD = """g (float[2, 4, 8] x) => (float[2, 4, 8] y)
<float[8, 32] w1, float[32] b1, float[32, 8] w2>
{
    h = MatMul(x, w1) a = Add(h, b1) r = Sigmoid(a)
    f = MatMul(r, w2)
    y = Add(f, x)
}"""
ATTENTION = """g (float[2, 4, 8] x) => (float[2, 4, 8] y)
<float[8, 16] wq, float[8, 16] wk, float[8, 16] wv, float[16, 8] wo,
 int64[4] split = {2, 4, 4, 4}, int64[3] joined = {2, 4, 16}>
{
    q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
    q4 = Reshape(q, split) k4 = Reshape(k, split) v4 = Reshape(v, split)
    qh = Transpose <perm=[0, 2, 1, 3]> (q4) kh = Transpose <perm=[0, 2, 3, 1]> (k4)
    vh = Transpose <perm=[0, 2, 1, 3]> (v4)
    s = MatMul(qh, kh) p = Softmax <axis=-1> (s) c = MatMul(p, vh)
    t = Transpose <perm=[0, 2, 1, 3]> (c) r = Reshape(t, joined)
    y = MatMul(r, wo)
}"""
TEXTS = {
    "chain": CHAIN,
    "residual": RESIDUAL,
    "depthwise": DEPTHWISE,
    "grouped": GROUPED,
    "concat": CONCAT,
    "feed-forward": FEED_FORWARD,
    "attention": ATTENTION,
}


def prepared(model: Graph, count: int = 2) -> tuple[Graph, Recorder, dict[str, torch.Tensor]]:
    """Return a graph with shapes, a context with probes, and the first of them as tensors."""
    ir.infer_shapes(model)
    made = context(target="x86-avx512-vnni", model=model)
    random = np.random.default_rng(0)
    feeds = [
        {
            v.name: random.standard_normal(
                [d if isinstance(d, int) else 2 for d in v.shape or ()]
            ).astype(np.float32)
            for v in model.feeds
        }
        for _ in range(count)
    ]
    made.probes = feeds
    return model, made, {name: torch.from_numpy(values) for name, values in feeds[0].items()}


def half(model: Graph, made: Recorder) -> tuple[Any, Any, dict[str, Array]]:
    """Return the coupling, the sites, and half of the units of each, chosen at random."""
    coupling = couple(model, made.coupling_rules)
    sites, _ = training_sites(model, coupling)
    random = np.random.default_rng(1)
    keeps = {s.name: kept_units(s, random.random(s.size), s.size // 2) for s in sites}
    return coupling, sites, keeps


@pytest.mark.parametrize("name", TEXTS)
def test_closed_units_are_removed_units(name: str) -> None:
    model, made, feeds = prepared(graph(TEXTS[name], opset=17))
    coupling, sites, keeps = half(model, made)
    assert sites
    assert not all(keep.all() for keep in keeps.values())
    smaller, worst = removed(model, coupling, keeps, made)
    assert worst <= 1e-5  # relative to the largest output

    gates = Gates(sites)
    gates.close(keeps)
    closed = Program.of(model).run(feeds, taps=gates.taps)
    left = Program.of(smaller).run(feeds)
    for output, expected in closed.items():
        # float32 sums in another order
        torch.testing.assert_close(left[output], expected, rtol=1e-4, atol=1e-4)


def test_a_quantized_model_loses_units_between_its_quantizers(models: Path) -> None:
    model, made, feeds = prepared(quantized_digits(models))
    coupling, sites, keeps = half(model, made)
    assert {axis.value.producer.op for s in sites for axis in s.gates} == {"DequantizeLinear"}
    smaller, worst = removed(model, coupling, keeps, made)
    assert worst <= 1e-5
    stored = [n for n in smaller.nodes("DequantizeLinear") if n.inputs[0].is_constant]
    per_channel = [n for n in stored if n.inputs[1].array().size > 1]
    assert per_channel
    for node in per_channel:
        axis = node.attribute("axis", 1)
        assert node.inputs[0].array().shape[axis] == node.inputs[1].array().size
    gates = Gates(sites)
    gates.close(keeps)
    closed = Program.of(model).run(feeds, taps=gates.taps)
    left = Program.of(smaller).run(feeds)
    for output, expected in closed.items():
        torch.testing.assert_close(left[output], expected, rtol=1e-4, atol=1e-4)


def test_open_gates_change_nothing() -> None:
    model, made, feeds = prepared(graph(RESIDUAL))
    _, sites, _ = half(model, made)
    program = Program.of(model)
    plain, tapped = program.run(feeds), program.run(feeds, taps=Gates(sites).taps)
    assert torch.equal(plain["y"], tapped["y"])


def test_units_of_a_recurrent_product_have_no_gate() -> None:
    text = """g (float[4, 2, 3] x) => (float[4, 2, 5] y)
    <float[1, 32, 3] w, float[1, 32, 8] r, float[8, 5] w2, int64[1] one = {1}>
    {
        h, last, cell = LSTM <hidden_size=8> (x, w, r)
        s = Squeeze(h, one)
        y = MatMul(s, w2)
    }"""
    model, made, _ = prepared(graph(text))
    sites, staying = training_sites(model, couple(model, made.coupling_rules))
    assert not sites
    assert any("no gate can stand" in reason for reason in staying.values())


def test_excluded_groups_stay() -> None:
    model, made, _ = prepared(graph(CHAIN))
    sites, staying = training_sites(model, couple(model, made.coupling_rules), ["w1"])
    assert [site.name for site in sites] == ["w2"]
    assert "w1" in staying


def test_scores_are_the_summed_products_of_weights_and_gradients() -> None:
    """For a gate g = 1 in front of a sum, dL/dg = sum over its weights of w dL/dw."""
    model, made, feeds = prepared(graph(CHAIN))
    coupling = couple(model, made.coupling_rules)
    sites, _ = training_sites(model, coupling)
    program, gates = Program.of(model), Gates(sites)
    weight = program.constants["w2"].clone().requires_grad_()
    gates.values["w1"] = torch.ones(16, requires_grad=True)
    loss = program.run(feeds, values={"w2": weight}, taps=gates.taps)["y"].square().sum()
    by_gate, by_weight = torch.autograd.grad(loss, [gates.values["w1"], weight])
    products = (weight * by_weight).sum(dim=(0, 2, 3)).detach()
    torch.testing.assert_close(by_gate, products, rtol=1e-4, atol=1e-3 * float(by_gate.abs().max()))


def test_a_unit_that_nobody_needs_is_worth_nothing() -> None:
    model, made, feeds = prepared(graph(CHAIN))
    weights = model.value("w2").array().copy()
    weights[:, 3] = 0.0
    model.set_tensor(model.value("w2"), ir.Tensor.from_array(weights))
    # Scores of classes that are sure of one leave nothing to lose.
    soft = model.value("w3").array() * np.float32(0.01)
    model.set_tensor(model.value("w3"), ir.Tensor.from_array(soft))
    sites, _ = training_sites(model, couple(model, made.coupling_rules))
    scores = unit_scores(Program.of(model), Gates(sites), [feeds], {}, seed=0)
    assert scores["w1"][3] == 0.0
    assert (np.delete(scores["w1"], 3) > 0).sum() > 8


def test_scores_foretell_divergences(models: Path) -> None:
    """Half of the mean square of the gradient is the divergence to second order."""
    model = ir.load(models / "digits_resnet.onnx")
    ir.infer_shapes(model)
    sites, _ = training_sites(model, couple(model, context().coupling_rules))
    with np.load(models / "digits.npz") as data:
        images = torch.from_numpy(data["input"][:64].astype(np.float32))
    program, gates = Program.of(model), Gates(sites)
    scores = unit_scores(program, gates, [{"input": images}], {}, seed=0)
    site = sites[2]
    with torch.no_grad():
        expected = torch.log_softmax(next(iter(program.run({"input": images}).values())), -1)
        apart = []
        for unit in range(0, site.size, 4):
            keep = np.ones(site.size, dtype=bool)
            keep[unit] = False
            gates.close({site.name: keep})
            found = next(iter(program.run({"input": images}, taps=gates.taps).values()))
            gaps = expected.exp() * (expected - torch.log_softmax(found, -1))
            apart.append(float(gaps.sum(-1).mean()))
    ranks = [np.argsort(np.argsort(each)) for each in (scores[site.name][::4], apart)]
    assert np.corrcoef(*ranks)[0, 1] > 0.5


def test_means_of_closed_units_go_into_biases() -> None:
    """Units that are the same for every input are made up for exactly."""
    text = """g (float[4, 3, 5, 5] x) => (float[4, 6, 5, 5] y)
    <float[16, 3, 1, 1] w1, float[16] b1, float[6, 16, 1, 1] w2, float[6] b2>
    {
        h = Conv(x, w1, b1) r = Relu(h)
        y = Conv(r, w2, b2)
    }"""
    weights = np.zeros((16, 3, 1, 1), dtype=np.float32)
    weights[8:] = 0.25
    model, made, feeds = prepared(graph(text, w1=weights))
    sites, _ = training_sites(model, couple(model, made.coupling_rules))
    program, gates = Program.of(model), Gates(sites)
    trained = {n: torch.nn.Parameter(program.constants[n].clone()) for n in ("w2", "b2")}
    keep = np.arange(16) >= 8
    readers = readers_of(sites, trained)
    assert [(reader.weight, reader.bias) for reader in readers] == [("w2", "b2")]
    compensate(readers, {"w1": ~keep}, program, [feeds], {}, gates.taps, trained)
    before = program.run(feeds)["y"]
    gates.close({"w1": keep})
    values = {name: parameter.detach() for name, parameter in trained.items()}
    after = program.run(feeds, values=values, taps=gates.taps)["y"]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)  # float32 sums


def test_only_marked_units_are_made_smaller() -> None:
    model, context_, _ = prepared(graph(CHAIN))
    sites, _ = training_sites(model, couple(model, context_.coupling_rules))
    program = Program.of(model)
    values = {n: program.constants[n].clone().requires_grad_() for n in ("w1", "w2", "b1")}
    marked = np.zeros(16, dtype=bool)
    marked[2] = True
    group_lasso(sites, {"w1": marked}, values).backward()  # type: ignore[no-untyped-call]
    gradients = {name: value.grad for name, value in values.items()}
    assert gradients["w1"] is not None
    assert gradients["w2"] is not None
    assert gradients["b1"] is None
    rest = np.arange(16) != 2
    assert not gradients["w1"][rest].any()
    assert not gradients["w2"][:, rest].any()
    # Down the norm of the slice: the gradient is along the weights.
    made = (gradients["w1"][2], values["w1"][2])
    read = (gradients["w2"][:, 2], values["w2"][:, 2])
    for gradient, weight in (made, read):
        flat = (gradient.reshape(-1), weight.detach().reshape(-1))
        cosine = torch.cosine_similarity(*flat, dim=0)
        assert float(cosine) == pytest.approx(1.0, abs=1e-5)


def quantized_digits(models: Path) -> Graph:
    """Return the digits model in integers."""
    import graphopt

    compiled = graphopt.compile(
        models / "digits_resnet.onnx", data=models / "digits.npz", recipe="integer"
    )
    return compiled.graph
