"""The pass: what it takes, what it leaves, what is shared, and what data change."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.quantize.quantize_weights import QuantizeWeights
from graphopt.pipeline import snr_db
from graphopt.testing import context, graph, run

CHAIN = """g (float[a, 64] x) => (float[a, 48] y)
<float[64, 96] w, float[96, 48] v, float[64] scale>
{ n = Mul(x, scale) \n h = MatMul(n, w) \n r = Relu(h) \n y = MatMul(r, v) }"""


def samples(count: int = 64, features: int = 64) -> np.ndarray:
    random = np.random.default_rng(0)
    directions = random.standard_normal((8, features)) * np.exp(random.normal(0, 1, features))
    noise = 0.1 * random.standard_normal((count, features))
    return (random.standard_normal((count, 8)) @ directions + noise).astype(np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 3},
        {"block_size": 24},
        {"block_size": 8},
        {"method": "best"},
        {"format": "qoperator"},
        {"accuracy_level": 5},
        {"embedding_bits": 16},
        {"zero_points": "none"},
        {"format": "dq", "zero_points": "fractional"},
        {"bits": 8, "zero_points": "fractional"},
    ],
    ids=str,
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError) as caught:
        QuantizeWeights(**wrong)  # type: ignore[arg-type]
    assert caught.value.code == "G103"
    assert caught.value.hint


def test_data_lower_the_error_of_the_outputs() -> None:
    original, data = graph(CHAIN), samples(80)
    quality = {}
    for method in ("rtn", "hqq", "search", "awq", "gptq", "descent", "auto"):
        model = original.copy()
        given = context(data={"x": data[:64]}, model=original)
        step = QuantizeWeights(method=method, accuracy_level=0)
        assert step.run(model, given).modified
        ir.verify(model)
        unseen = {"x": data[64:]}
        quality[method] = snr_db(run(original, unseen), run(model, unseen))
    assert quality["search"] > quality["rtn"] - 0.1
    assert min(quality[m] for m in ("gptq", "descent", "auto")) > quality["search"] + 1
    assert quality["awq"] > quality["search"]


@pytest.mark.parametrize("method", ["gptq", "descent", "awq", "auto"])
def test_without_data_scales_are_searched(method: str) -> None:
    model, plain = graph(CHAIN), graph(CHAIN)
    QuantizeWeights(method=method).run(model, context())
    QuantizeWeights(method="search").run(plain, context())
    assert ir.structural_hash(model) == ir.structural_hash(plain)


def test_the_result_is_the_same_every_time() -> None:
    hashes = set()
    for _ in range(2):
        model = graph(CHAIN)
        QuantizeWeights().run(model, context(data={"x": samples()}, model=model))
        hashes.add(ir.structural_hash(model))
    assert len(hashes) == 1


def test_awq_folds_into_the_row_before() -> None:
    model = graph(CHAIN)
    given = context(data={"x": samples()}, model=model)
    result = QuantizeWeights(method="awq", only=("h",)).run(model, given)
    assert [n.op for n in model.nodes()] == ["Mul", "MatMulNBits", "Relu", "MatMul"]
    assert len(result.notes) == 2


def test_awq_divides_what_others_read_too_by_a_node_of_its_own() -> None:
    text = CHAIN.replace("y = MatMul(r, v)", "y = MatMul(r, v) \n z = Neg(n)")
    model = graph(text.replace("(float[a, 48] y)", "(float[a, 48] y, float[a, 64] z)"))
    before, data = model.copy(), samples()
    QuantizeWeights(method="awq", bits=8, only=("h",), accuracy_level=0).run(
        model, context(data={"x": data}, model=model)
    )
    assert len(model.nodes("Mul")) == 2
    feed = {"x": data[:4]}
    assert snr_db(run(before, feed)[:1], run(model, feed)[:1]) > 35
    np.testing.assert_array_equal(run(before, feed)[1], run(model, feed)[1])


def test_products_of_the_same_weights_share_them() -> None:
    model = graph(
        "g (float[a, 64] x, float[a, 64] u) => (float[a, 64] y, float[a, 64] z) <float[64, 64] w>"
        "\n{ y = MatMul(x, w) \n z = MatMul(u, w) }"
    )
    asked = context()
    QuantizeWeights().run(model, asked)
    first, second = model.nodes("MatMulNBits")
    assert first.inputs[1:] == second.inputs[1:]
    assert "shared" in asked.reasons["z"]
    assert model.find("w") is None


TIED = [
    "w2 = Transpose<perm=[1, 0]>(w) \n y = MatMul(e, w2)",
    "y = Gemm<transB=1>(e, w)",
]


@pytest.mark.parametrize("product", TIED)
def test_tied_embeddings_are_stored_once(product: str) -> None:
    model = graph(
        f"g (int64[a] i) => (float[a, 96] y) <float[96, 64] w>\n{{ e = Gather(w, i) \n {product} }}"
    )
    before = model.copy()
    QuantizeWeights(bits=8, accuracy_level=0).run(model, context())
    ir.verify(model)
    codes = [v for v in model.initializers if (v.stored and v.stored.nbytes) == 96 * 64]
    assert len(codes) == 1
    assert sorted(n.op for n in model.nodes()) == ["GatherBlockQuantized", "MatMulNBits", "Reshape"]
    feed = {"i": np.array([0, 95, 7])}
    assert snr_db(run(before, feed), run(model, feed)) > 35


def test_equal_weights_that_are_stored_twice_are_stored_once() -> None:
    table = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)
    model = graph(
        "g (int64[a] i) => (float[a, 96] y) <float[96, 64] w, float[64, 96] t>"
        "\n{ e = Gather(w, i) \n y = MatMul(e, t) }",
        w=table,
        t=table.T,
    )
    QuantizeWeights(accuracy_level=0).run(model, context())
    assert len([v for v in model.initializers if v.dtype and v.dtype.name == "UINT8"]) == 2


LEFT = {
    "no operand is constant": ("float[a, 64] u", "y = MatMul(x, u)", "float[a]"),
    "its first operand is constant": ("float[64, 64] u", "y = MatMul(w, u)", "float[64, 64]"),
    "its first operand is transposed": ("", "y = Gemm<transA=1>(x, w)", "float[64, 64]"),
    "its product is scaled (alpha)": ("", "y = Gemm<alpha=2.0>(x, w)", "float[a, 64]"),
    "too few to be worth it": ("", "y = MatMul(x, s)", "float[a, 3]"),
    "its rows hold too few for a block": ("float[a, 4] u", "y = MatMul(u, n)", "float[a, 512]"),
    "which is no single matrix": ("", "y = MatMul(x, b)", "float[2, a, 64]"),
    "are a vector": ("float[64] u", "y = MatMul(u, w)", "float[64]"),
    "its weights are of type double": ("double[a, 64] u", "y = MatMul(u, d)", "double[a, 64]"),
}


@pytest.mark.parametrize("reason", LEFT)
def test_what_cannot_be_stored_so_is_left_and_explained(reason: str) -> None:
    given, node, kind = LEFT[reason]
    extra = f", {given}" if given else ""
    names = {"w": "64, 64", "s": "64, 3", "n": "4, 512", "b": "2, 64, 64", "d": "64, 64"}
    declared = ", ".join(
        f"{'double' if k == 'd' else 'float'}[{v}] {k}"
        for k, v in names.items()
        if f"{k})" in node or f"({k}" in node
    )
    model = graph(
        f"g (float[a, 64] x{extra}) => ({kind} y) <{declared}>\n{{ {node} }}"
        if declared
        else f"g (float[a, 64] x{extra}) => ({kind} y)\n{{ {node} }}"
    )
    before, asked = ir.structural_hash(model), context()
    assert not QuantizeWeights().run(model, asked).modified
    assert ir.structural_hash(model) == before
    assert reason in asked.reasons["y"]


def test_exclusions_are_kept() -> None:
    model, asked = graph(CHAIN), context()
    QuantizeWeights(exclude=("y",)).run(model, asked)
    assert [n.op for n in model.nodes()] == ["Mul", "MatMulNBits", "Relu", "MatMul"]
    assert asked.reasons["y"] == "excluded by the recipe"
    assert not QuantizeWeights(only=("nothing*",)).run(graph(CHAIN), context()).modified


def test_embeddings_can_be_left() -> None:
    model = graph("g (int64[a] i) => (float[a, 64] y) <float[96, 64] w>\n{ y = Gather(w, i) }")
    asked = context()
    assert not QuantizeWeights(embedding_bits=0).run(model, asked).modified
    assert "embedding-bits" in asked.reasons["y"]


def test_bodies_are_left_alone_and_keep_what_they_read() -> None:
    model = graph(
        """g (bool c, float[a, 64] x) => (float[a, 64] y, float[a, 64] z) <float[64, 64] w>
        { z = MatMul(x, w)
          y = If (c) <
            then_branch = t () => (float[a, 64] p) { p = MatMul(x, w) },
            else_branch = e () => (float[a, 64] q) { q = Identity(x) }
          > }"""
    )
    before, asked = model.copy(), context()
    QuantizeWeights(bits=8, accuracy_level=0).run(model, asked)
    ir.verify(model)
    assert "control-flow" in asked.reasons["p"]
    feed = {"c": np.array(True), "x": samples(3)}
    np.testing.assert_array_equal(run(model, feed)[0], run(before, feed)[0])


@pytest.mark.parametrize("opset", [9, 13, 22])
@pytest.mark.parametrize("layout", ["matmulnbits", "dq"])
def test_old_and_new_operator_sets(opset: int, layout: str) -> None:
    model = graph(CHAIN, opset=opset)
    before = model.copy()
    QuantizeWeights(bits=8, format=layout, accuracy_level=0).run(model, context())
    ir.verify(model)
    assert model.opset == (opset if layout == "matmulnbits" else max(opset, 21))
    feed = {"x": samples(3)}
    # The runtime computes a fused DequantizeLinear with 8-bit activations.
    assert snr_db(run(before, feed), run(model, feed)) > 30


def test_leading_ones_of_the_weights() -> None:
    text = "g (float[a, b, 64] x) => (float[a, b, 40] y) <float[1, 64, 40] w>\n{ y = MatMul(x, w) }"
    model = graph(text)
    before = model.copy()
    QuantizeWeights(bits=8, accuracy_level=0).run(model, context())
    feed = {"x": samples(6).reshape(2, 3, 64)}
    assert model.nodes()[0].op == "MatMulNBits"
    assert snr_db(run(before, feed), run(model, feed)) > 35


def test_the_decoder(shared: object) -> None:
    model = ir.load(f"{shared}/models/stories260k_decoder.onnx")
    before = model.copy()
    result = QuantizeWeights(accuracy_level=0).run(model, context())
    assert result.metrics["matrices"] == 37
    # 559 k parameters, half of them masks and tables of other kinds.
    assert result.metrics["bytes_after"] < 0.6 * result.metrics["bytes_before"]
    feed = {"input_ids": np.arange(16)[None]}
    assert snr_db(run(before, feed), run(model, feed)) > 15


def test_nothing_to_do_changes_nothing() -> None:
    model = graph("g (float[a] x) => (float[a] y)\n{ y = Relu(x) }")
    before = ir.structural_hash(model)
    result = QuantizeWeights(format="dq").run(model, context())
    assert not result.modified
    assert ir.structural_hash(model) == before
    assert result.notes == ("no matrix is worth it",)
