"""Residual branches: which there are, and where a linear operator would have to look."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.analysis.branches import Branch, Chain, residual_branches
from graphopt.analysis.chains import linear_runs
from graphopt.passes.prune.branches.placement import Axis, Placement, placement_of
from graphopt.testing import graph
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = """
    agraph (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] z)
    <float[8, 4, 3, 3] w1, float[4, 8, 1, 1] w2>
    {
        a = Conv<pads = [1, 1, 1, 1]>(x, w1)
        b = Relu(a)
        f = Conv(b, w2)
        y = Add(x, f)
        z = Relu(y)
    }
"""
DOWN = """
    agraph (float[N, 4, 8, 8] x) => (float[N, 6, 4, 4] z)
    <float[6, 4, 3, 3] w1, float[6, 6, 3, 3] w2, float[6, 4, 1, 1] w3>
    {
        s = Conv<strides = [2, 2]>(x, w3)
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w1)
        b = Relu(a)
        f = Conv<pads = [1, 1, 1, 1]>(b, w2)
        y = Add(f, s)
        z = Relu(y)
    }
"""
TRANSFORMER = """
    agraph (float[N, T, 8] x) => (float[N, T, 8] z)
    <float[8] g, float[8] c, float[8, 8] wq, float[8, 8] wk, float[8, 8] wv, float[8, 8] wo,
     float[8, 16] w1, float[16, 8] w2>
    {
        n = LayerNormalization(x, g, c)
        q = MatMul(n, wq)
        k = MatMul(n, wk)
        v = MatMul(n, wv)
        t = Transpose<perm = [0, 2, 1]>(k)
        scores = MatMul(q, t)
        p = Softmax(scores)
        heads = MatMul(p, v)
        attention = MatMul(heads, wo)
        y = Add(x, attention)
        m = LayerNormalization(y, g, c)
        h = MatMul(m, w1)
        r = Relu(h)
        ffn = MatMul(r, w2)
        z = Add(ffn, y)
    }
"""
NESTED = """
    agraph (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y)
    <float[4, 4, 3, 3] w1, float[4, 4, 3, 3] w2, float[4, 4, 1, 1] w3>
    {
        a = Conv<pads = [1, 1, 1, 1]>(x, w1)
        inner = Conv<pads = [1, 1, 1, 1]>(a, w2)
        b = Add(a, inner)
        f = Conv(b, w3)
        y = Add(f, x)
    }
"""


def branches(model: ir.Graph) -> tuple[Branch, ...]:
    ir.infer_shapes(model)
    return residual_branches(model)


def facts(branch: Branch) -> tuple[str, str, str, list[str]]:
    return (
        branch.name,
        branch.entry.name,
        branch.skip.name,
        [n.outputs[0].name for n in branch.nodes],
    )


def test_plain_branch() -> None:
    (found,) = branches(graph(PLAIN))
    assert facts(found) == ("f", "x", "x", ["a", "b", "f"])
    assert found.join.outputs[0].name == "y"
    assert (found.operand, found.sides, found.shortcut) == (1, (), ())


def test_both_sides_of_a_downsampling_block_are_branches() -> None:
    short, main = branches(graph(DOWN))
    assert facts(short) == ("s", "x", "f", ["s"])
    assert facts(main) == ("f", "x", "s", ["a", "b", "f"])
    assert [n.outputs[0].name for n in main.shortcut or ()] == ["s"]
    assert short.overlaps(main)
    assert main.overlaps(short)


def test_attention_and_ffn() -> None:
    attention, ffn = branches(graph(TRANSFORMER))
    assert facts(attention)[:3] == ("attention", "x", "x")
    assert len(attention.nodes) == 9
    assert facts(ffn) == ("ffn", "y", "y", ["m", "h", "r", "ffn"])
    assert not attention.overlaps(ffn)


def test_inner_branches_come_first() -> None:
    inner, outer = branches(graph(NESTED))
    assert facts(inner) == ("inner", "a", "a", ["inner"])
    assert facts(outer) == ("f", "x", "x", ["a", "inner", "b", "f"])
    assert inner.overlaps(outer)


@pytest.mark.parametrize("tensor", ["a", "b", "f"])
def test_an_extra_reader_makes_it_no_branch(tensor: str) -> None:
    model = graph(PLAIN)
    extra = model.add_node("Neg", [model.value(tensor)]).outputs[0]
    extra.dtype = model.value(tensor).dtype
    model.set_outputs([*model.outputs, extra])
    assert branches(model) == ()


def test_what_the_model_returns_is_no_branch() -> None:
    model = graph(PLAIN)
    model.set_outputs([*model.outputs, model.value("b")])
    assert branches(model) == ()


def test_a_graph_inside_that_reads_it_makes_it_no_branch() -> None:
    model = graph("""
        agraph (float[4, 4] x, bool p) => (float[4, 4] y, float[4, 4] o)
        <float[4, 4] w>
        {
            a = MatMul(x, w)
            f = Relu(a)
            y = Add(x, f)
            o = If(p) <
                then_branch = one () => (float[4, 4] t) { t = Neg(a) },
                else_branch = two () => (float[4, 4] e) { e = Neg(x) }
            >
        }
    """)
    assert branches(model) == ()


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul(u, w) y = Add(x, a)",  # of another input
        "a = MatMul(x, w) y = Add(a, a)",  # twice the same
        "a = Relu(x) y = Add(x, a)",  # nothing to save
        "a = MatMul(x, w) y = Sub(x, a)",
        "a = MatMul(x, w) y = Add(b, a)",  # a bias
        "a = MatMul(x, w) y = Sum(x, a, u)",
        "a = MatMul(x, v) r = ReduceMean<axes = [1]>(a) y = Add(x, r)",  # broadcast
    ],
)
def test_other_additions(body: str) -> None:
    model = graph(f"""
        agraph (float[4, 4] x, float[4, 4] u) => (float[4, 4] y)
        <float[4, 4] w, float[4, 4] v, float[4] b>
        {{ {body} }}
    """)
    assert branches(model) == ()


def test_sum_of_two() -> None:
    model = graph("""
        agraph (float[4, 4] x) => (float[4, 4] y) <float[4, 4] w>
        { a = MatMul(x, w) f = Relu(a) y = Sum(f, x) }
    """)
    assert [facts(b)[:3] for b in branches(model)] == [("f", "x", "x")]


def test_fused_addition_with_normalization() -> None:
    model = graph("""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        agraph (float[2, 3, 8] x) => (float[2, 3, 8] y)
        <float[8, 8] w, float[8] g, float[8] c>
        {
            a = MatMul(x, w)
            f = Relu(a)
            y = com.microsoft.SkipLayerNormalization(f, x, g, c)
        }
    """)
    (found,) = branches(model)
    assert facts(found) == ("f", "x", "x", ["a", "f"])
    assert found.operand == 0


def test_tensors_from_elsewhere_are_sides() -> None:
    model = graph("""
        agraph (float[2, 4, 8] x, float[2, 4, 8] memory) => (float[2, 4, 8] y)
        <float[8, 8] w>
        {
            q = MatMul(x, w)
            t = Transpose<perm = [0, 2, 1]>(memory)
            s = MatMul(q, t)
            f = MatMul(s, memory)
            y = Add(x, f)
        }
    """)
    (found,) = branches(model)
    assert found.entry.name == "x"
    assert [v.name for v in found.sides] == ["memory"]


def test_the_order_of_nodes_does_not_matter() -> None:
    for text in (PLAIN, DOWN, TRANSFORMER, NESTED):
        expected = [facts(b) for b in branches(graph(text))]
        for seed in range(4):
            model = graph(text)
            nodes = model.nodes()
            random.Random(seed).shuffle(nodes)
            model._nodes = dict.fromkeys(nodes)
            model.sort()
            assert [facts(b) for b in branches(model)] == expected


def test_a_long_chain_of_additions_is_searched_quickly() -> None:
    model = ir.Graph("long")
    model.opsets = {"": 17}
    x = model.new_value("x")
    x.dtype, x.shape = DType.FLOAT, (4, 4)
    model.add_input(x)
    weight = model.add_constant("w", [[1.0] * 4] * 4)
    last = x
    for _ in range(2000):
        made = model.add_node("MatMul", [last, weight]).outputs[0]
        last = model.add_node("Add", [last, made]).outputs[0]
    model.set_outputs([last])
    assert len(residual_branches(model)) == 2000


def test_branches_of_real_models(shared: Path) -> None:
    counts = {"cifar10_resnet56": 27, "imagenet_proxyless_w025_r112": 13, "stories260k_decoder": 10}
    for name, count in counts.items():
        assert len(branches(ir.load(shared / "models" / f"{name}.onnx"))) == count, name


# -- placement -----------------------------------------------------------------------------


def placed(text: str) -> Placement | str:
    return placement_of(branches(graph(text))[-1])


def test_placement_of_convolutions() -> None:
    assert placed(PLAIN) == Placement(4, 4, (Axis(), Axis()))
    assert placed(DOWN) == Placement(4, 6, (Axis(2, 1), Axis(2, 1)))


def test_placement_of_matrix_products() -> None:
    assert placed(TRANSFORMER) == Placement(8, 8, None)


def test_padding_makes_as_many_positions_in_the_same_place() -> None:
    down = Axis(2, 1)
    assert down.padding(1) == (0, 0)
    assert down.padding(3) == (1, 1)
    # TensorFlow's SAME of 3 with stride 2 on even sizes: nothing in front, one behind.
    assert Axis(2, 1, 1.0).padding(3) == (0, 2)
    # A 3x3 convolution without padding crops what only a kernel of 3 can.
    valid = Axis(1, -2, 1.0)
    assert valid.padding(1) is None
    assert valid.padding(3) == (0, 0)


def test_axes_behind_each_other() -> None:
    first, second = Axis(2, 1, 0.0), Axis(1, -2, 1.0)
    assert first.then(second) == Axis(2, -3, 2.0)


PAD = """
    agraph (float[N, 4, 9, 9] x) => (float[N, 4, 9, 9] y)
    <float[4, 4, 3, 3] w, float[4, 4, 3, 3] v>
    {
        a = Conv<auto_pad = "SAME_UPPER">(x, w)
        f = Conv<auto_pad = "SAME_LOWER">(a, v)
        y = Add(x, f)
    }
"""


def test_automatic_padding() -> None:
    assert placed(PAD) == Placement(4, 4, (Axis(), Axis()))


def test_channels_behind_a_transpose() -> None:
    text = """
        agraph (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y)
        <float[4, 1, 7, 7] w, float[4, 16] v, float[16, 4] u>
        {
            a = Conv<pads = [3, 3, 3, 3], group = 4>(x, w)
            b = Transpose<perm = [0, 2, 3, 1]>(a)
            c = MatMul(b, v)
            d = Relu(c)
            e = MatMul(d, u)
            f = Transpose<perm = [0, 3, 1, 2]>(e)
            y = Add(f, x)
        }
    """
    assert placed(text) == Placement(4, 4, (Axis(), Axis()))


def test_reasons() -> None:
    model = graph(PLAIN)
    (branch,) = branches(model)
    assert isinstance(placement_of(branch), Placement)
    flat = Chain(model.value("f"), model.value("w1"), (), branch.nodes)
    flat.entry.dtype = DType.FLOAT16
    assert placement_of(flat) == "its ends are of different types"
    flat.entry.dtype = DType.INT64
    assert placement_of(flat) == "`w1` is not floating-point"
    flat.entry.shape = (8,)
    assert placement_of(flat) == "it makes a tensor of rank 4 of one of rank 1"
    flat.entry.shape = None
    assert placement_of(flat) == "the shapes of its ends are not known"
    branch.entry.shape = ("N", None, 8, 8)
    assert placement_of(branch) == "its channels are not counted"
    branch.entry.shape, branch.exit.shape = ("N", 4, 8, 8), ("N", 4, 5, 5)
    model.value("a").shape = model.value("b").shape = None
    lost = Chain(branch.exit, branch.entry, (), branch.nodes[1:])
    assert placement_of(lost) == "how its positions lie over those of its input is not known"


# -- runs without a skip -------------------------------------------------------------------

RUN = """
    agraph (float[N, 3, 8, 8] x) => (float[N, 5, 4, 4] z)
    <float[6, 3, 1, 1] w1, float[6, 1, 3, 3] w2, float[5, 6, 1, 1] w3>
    {
        a = Conv(x, w1)
        b = Clip(a)
        c = Conv<group = 6, pads = [1, 1, 1, 1], strides = [2, 2]>(b, w2)
        d = Relu(c)
        y = Conv(d, w3)
        z = Relu(y)
    }
"""


def ends(model: ir.Graph, products: int = 3) -> list[tuple[str, str]]:
    ir.infer_shapes(model)
    return [(r.entry.name, r.exit.name) for r in linear_runs(model, products)]


def test_runs_between_products() -> None:
    assert ends(graph(RUN)) == [("x", "c"), ("x", "y"), ("b", "y")]
    assert ends(graph(RUN), 2) == [("x", "c"), ("b", "y")]
    model = graph(RUN)
    ir.infer_shapes(model)
    whole = linear_runs(model)[1]
    assert placement_of(whole) == Placement(3, 5, (Axis(2, 1), Axis(2, 1)))
    assert [n.op for n in whole.nodes] == ["Conv", "Clip", "Conv", "Relu", "Conv"]


@pytest.mark.parametrize("tensor", ["a", "b"])
def test_a_run_ends_where_others_read(tensor: str) -> None:
    model = graph(RUN)
    extra = model.add_node("Neg", [model.value(tensor)]).outputs[0]
    extra.dtype = DType.FLOAT
    model.set_outputs([*model.outputs, extra])
    assert ends(model) == [("b", "y")]


def test_a_run_does_not_cross_an_addition() -> None:
    assert ends(graph(PLAIN)) == [("x", "f")]
    assert ends(graph(NESTED)) == []
