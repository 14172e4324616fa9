"""Sparse weights in graphs: what becomes sparse, what is left alone and why, and the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.prune.sparsify_weights import NO_FASTER, SparsifyWeights
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.testing import context, graph, random_feeds, run
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.passes.base import PassResult
    from graphopt.testing import Recorder

Array = np.ndarray[Any, Any]

NETWORK = """
g (float[N, 8, 6, 6] x) => (float[N, 10] y)
<float[16, 8, 3, 3] w1, float[16] b1, float[12, 8, 1, 1] w2, float[12, 6] w3, float[10] b3,
 float[10, 6] w4> {
    [first] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    r = Relu(a)
    [grouped] b = Conv <group = 2> (r, w2)
    p = GlobalAveragePool(b)
    f = Flatten(p)
    [product] m = MatMul(f, w3)
    [last] y = Gemm <transB = 1> (m, w4, b3)
}
"""


def smooth(seed: int, count: int = 24) -> Array:
    """Return inputs whose channels hang together."""
    mixing = np.random.default_rng(0).standard_normal((8, 8))
    plain = np.random.default_rng(seed).standard_normal((count, 8, 6, 6))
    return np.asarray(np.einsum("nchw,cd->ndhw", plain, mixing), np.float32)


def weights(seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    shapes = {"w1": (16, 8, 3, 3), "b1": (16,), "w2": (12, 8, 1, 1), "w3": (12, 6), "w4": (10, 6)}
    made: dict[str, Any] = {
        k: random.standard_normal(s).astype(np.float32) for k, s in shapes.items()
    }
    return made | {"b3": np.ones(10, np.float32)}


def network() -> ir.Graph:
    return graph(NETWORK, **weights())


def asked(model: ir.Graph) -> Recorder:
    return context(data={"x": smooth(1)}, model=model)


def output_error(before: ir.Graph, after: ir.Graph) -> float:
    feed = {"x": smooth(2)}
    wanted, found = run(before, feed)[0], run(after, feed)[0]
    return float(np.square(wanted - found).sum() / np.square(wanted).sum())


def sparse(before: ir.Graph, **options: Any) -> tuple[ir.Graph, PassResult, Recorder]:
    after, helper = before.copy(), asked(before)
    result = SparsifyWeights(**options).run(after, helper)
    ir.verify(after)
    return after, result, helper


@pytest.mark.parametrize("method", ["magnitude", "wanda", "obs"])
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "block", "2x2"])
def test_every_layer_follows_the_pattern(method: str, pattern: str) -> None:
    before = network()
    after, result, helper = sparse(before, method=method, pattern=pattern)
    assert result.modified
    assert set(helper.reasons) == {"first", "grouped", "product", "last"}
    for name in ("w1", "w2", "w3", "w4"):
        weight = after.value(name).array()
        share = (weight == 0).mean()
        # Layers of few channels have short cells: 2:4 of 6 keeps 2 + 2, blocks go while they fit.
        assert 0.3 <= share <= 0.5, (name, share)
        assert not (np.signbit(weight) & (weight == 0)).any()
    if pattern == "2:4":
        groups = (after.value("w1").array() != 0).reshape(16, 2, 4, 9)
        assert (groups.sum(axis=2) == 2).all()
    if pattern == "block":
        blocks = (after.value("w1").array() != 0).reshape(16, 2, 4, 9)
        assert (blocks.all(axis=2) | ~blocks.any(axis=2)).all()
    if pattern == "unstructured":
        assert (after.value("w1").array() == 0).sum() == 16 * 8 * 9 // 2
    assert result.metrics["weights"] == 4


def test_reconstruction_and_obs_change_outputs_less() -> None:
    before = network()
    errors = {
        (method, solved): output_error(before, sparse(before, method=method, reconstruct=solved)[0])
        for method in ("magnitude", "obs")
        for solved in (False, True)
    }
    assert errors["magnitude", True] < errors["magnitude", False] / 2
    assert errors["obs", False] < errors["magnitude", False]
    assert errors["obs", True] < errors["magnitude", True] * 1.1


def test_biases_take_up_the_mean_and_only_with_reconstruction() -> None:
    before = network()
    solved, plain = sparse(before)[0], sparse(before, reconstruct=False)[0]
    assert (solved.value("b1").array() != before.value("b1").array()).any()
    np.testing.assert_array_equal(plain.value("b1").array(), before.value("b1").array())


def test_the_same_input_and_seed_give_the_same_bytes() -> None:
    first, second = (sparse(network(), pattern="2:4")[0] for _ in range(2))
    assert ir.to_bytes(first) == ir.to_bytes(second)


def test_a_second_run_changes_nothing() -> None:
    for pattern in ("unstructured", "2:4", "block", "3x2"):
        after, _, helper = sparse(network(), pattern=pattern)
        kept = ir.structural_hash(after)
        again = SparsifyWeights(pattern=pattern).run(after, helper)
        assert not again.modified, pattern
        assert again.notes == ("the weights are as sparse as asked for",)
        assert ir.structural_hash(after) == kept


def test_without_data_small_weights_go_and_the_notes_say_so() -> None:
    before = network()
    after = before.copy()
    result = SparsifyWeights().run(after, context())
    assert "4 by magnitude, without data" in result.notes
    old, new = before.value("w3").array(), after.value("w3").array()
    assert np.abs(old[new == 0]).max() <= np.abs(old[new != 0]).min()
    np.testing.assert_array_equal(new[new != 0], old[new != 0])
    assert NO_FASTER in result.notes


def test_nothing_is_made_sparse_at_zero() -> None:
    before = network()
    after, result, _ = sparse(before, sparsity=0.0)
    assert not result.modified
    assert ir.to_bytes(after) == ir.to_bytes(before)


def test_include_and_exclude_name_operators() -> None:
    _, _, helper = sparse(network(), exclude=("first",))
    assert helper.reasons["first"] == "stays dense: excluded by the recipe"
    after, result, helper = sparse(network(), include=("*st",), exclude=("last",))
    assert result.metrics["weights"] == 1
    assert "not among those" in helper.reasons["product"]
    assert (after.value("w3").array() != 0).all()


OTHERS = """
g (float[2, 4, 5, 5] x, int64[3] ids) => (float[2, 4, 3, 3] y, float[3, 8] e, float[3, 8] t)
<float[4, 1, 3, 3] wd, float[8, 8] table, float[8, 8] table2> {
    [depthwise] y = Conv <group = 4> (x, wd)
    [embedding] e = Gather(table, ids)
    [tied] t = MatMul(e, table2)
}
"""


def test_depthwise_convolutions_and_embeddings_stay_dense() -> None:
    model = graph(OTHERS)
    helper = context()
    SparsifyWeights().run(model, helper)
    assert "depthwise" in helper.reasons["depthwise"]
    assert (model.value("table").array() == graph(OTHERS).value("table").array()).all()
    assert (model.value("table2").array() == 0).mean() == pytest.approx(0.5, abs=0.02)
    SparsifyWeights(include=("depthwise",)).run(model, helper)
    assert (model.value("wd").array() == 0).mean() == 0.5


def test_a_table_that_is_also_an_embedding_stays_dense() -> None:
    model = graph("""
    g (int64[3] ids) => (float[3, 8] t) <float[8, 8] table> {
        e = Gather(table, ids)
        [tied] t = MatMul(e, table)
    }""")
    helper = context()
    assert not SparsifyWeights().run(model, helper).modified
    assert "`table` is read by Gather" in helper.reasons["tied"]


def test_shared_weights_are_made_sparse_once_for_both_readers() -> None:
    text = """
    g (float[N, 8] x, float[N, 8] z) => (float[N, 8] a, float[N, 8] b) <float[8, 8] w> {
        [one] a = MatMul(x, w)
        [two] b = MatMul(z, w)
    }"""
    random = np.random.default_rng(0)
    data = {k: random.standard_normal((30, 8)).astype(np.float32) for k in ("x", "z")}
    model = graph(text)
    helper = context(data=data, model=model)
    result = SparsifyWeights().run(model, helper)
    assert result.metrics["weights"] == 1
    assert (model.value("w").array() == 0).sum() == 32
    assert helper.reasons["one"] == helper.reasons["two"]
    assert "obs" in helper.reasons["one"]
    mixed = graph(text.replace("[two] b = MatMul(z, w)", "[two] b = Gemm <transB = 1> (z, w)"))
    assert not SparsifyWeights().run(mixed, helper).modified
    assert "several ways" in helper.reasons["two"]


@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolutions_are_solved_too(group: int) -> None:
    text = f"""
    g (float[N, 8, 6, 6] x) => (float[N, {4 * group}, 12, 12] y)
    <float[8, 4, 3, 3] w, float[{4 * group}] b> {{
        [up] y = ConvTranspose <group = {group}, strides = [2, 2], pads = [1, 1, 1, 1],
            output_padding = [1, 1]> (x, w, b)
    }}"""
    before = graph(text)
    solved, _, helper = sparse(before, method="magnitude")
    plain = sparse(before, method="magnitude", reconstruct=False)[0]
    assert "relative squared error" in helper.reasons["up"]
    assert (solved.value("w").array() == 0).sum() == 8 * 4 * 9 // 2
    assert output_error(before, solved) < output_error(before, plain)


def test_other_float_types_constants_in_nodes_and_scaled_products() -> None:
    model = graph(
        """
    g (float[2, 4] x, float16[2, 4] h) => (float[2, 2] y, float16[2, 2] z) <float16[4, 2] w> {
        k = Constant <value = float[4, 2] {1, 2, 3, 4, -5, -6, -7, -8}> ()
        [scaled] y = Gemm <alpha = 0.5> (x, k)
        [half] z = MatMul(h, w)
    }""",
        w=np.arange(1, 9, dtype=np.float16).reshape(4, 2),
    )
    result = SparsifyWeights().run(model, context())
    assert result.metrics["weights"] == 2
    scaled = model.nodes("Gemm")[0].inputs[1]
    assert scaled is not None
    assert scaled.array().ravel().tolist() == [0, 0, 0, 0, -5, -6, -7, -8]
    assert model.value("w").dtype is DType.FLOAT16
    assert model.value("w").array().ravel().tolist() == [0, 0, 0, 0, 5, 6, 7, 8]
    assert not model.nodes("Constant")


def test_inner_graphs_integers_and_odd_weights_are_left_alone() -> None:
    model = graph(
        """
    g (float[2, 4] x, bool c) => (float[2, 4] y, float[2, 4] q, float[2, 4] n)
    <int8[4, 4] wq, float s = {0.5}, float[4, 4] bad> {
        y = If (c) <
            then_branch = t () => (float[2, 4] p) <float[4, 2] i =
                {1, 2, 3, 4, 1, 2, 3, 4}> { [inside] p = MatMul(x, i) },
            else_branch = e () => (float[2, 4] o) { o = Neg(x) }
        >
        d = DequantizeLinear(wq, s)
        [integer] q = MatMul(x, d)
        [broken] n = MatMul(x, bad)
    }""",
        wq=np.ones((4, 4), np.int8),
        bad=np.full((4, 4), np.nan, np.float32),
    )
    helper = context()
    result = SparsifyWeights().run(model, helper)
    assert not result.modified
    assert "control-flow" in helper.reasons["inside"]
    assert "before they are quantized" in helper.reasons["integer"]
    assert "not finite" in helper.reasons["broken"]


def test_inputs_that_are_always_zero_fall_back_to_equal_inputs() -> None:
    model = network()
    helper = context(data={"x": np.zeros((4, 8, 6, 6), np.float32)}, model=model)
    result = SparsifyWeights().run(model, helper)
    assert result.modified
    assert all(np.isfinite(v.array()).all() for v in model.initializers)
    assert (model.value("w1").array() == 0).mean() == 0.5


def test_zeros_stay_zero_through_insert_qdq() -> None:
    before = network()
    after, _, helper = sparse(before, pattern="2:4")
    InsertQdq(placement="integer").run(after, helper)
    integers = [
        n.inputs[0].array()
        for n in after.nodes("DequantizeLinear")
        if n.inputs[0] is not None and n.inputs[0].is_constant and n.inputs[0].array().ndim > 1
    ]
    assert len(integers) == 4
    for weight in integers:
        assert weight.dtype == np.int8  # symmetric: zero is 0
        assert (weight == 0).mean() >= 0.3
    kernel = next(w for w in integers if w.ndim == 4 and w.shape[2] == 3)
    assert ((kernel != 0).reshape(16, 2, 4, 9).sum(axis=2) <= 2).all()


def test_sparse_constants_are_smaller_load_and_give_the_same(tmp_path: Path) -> None:
    before = network()
    dense, _, _ = sparse(before, sparsity=0.9)
    stored, result, _ = sparse(before, sparsity=0.9, store="sparse")
    assert isinstance(stored.value("w1").stored, ir.SparseTensor)
    assert result.metrics["stored_sparsely"] >= 1
    sizes = {}
    for name, model in {"dense": dense, "sparse": stored}.items():
        ir.save(model, tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
        onnx.checker.check_model(str(tmp_path / name))
    assert sizes["sparse"] < 0.6 * sizes["dense"]
    feed = random_feeds(before)[0]
    np.testing.assert_array_equal(run(stored, feed)[0], run(dense, feed)[0])
    again = ir.load(tmp_path / "sparse")
    assert ir.to_bytes(again) == (tmp_path / "sparse").read_bytes()
    assert ir.structural_hash(again) == ir.structural_hash(stored)
    np.testing.assert_array_equal(run(again, feed)[0], run(dense, feed)[0])


def test_half_of_zeros_is_not_enough_for_sparse_constants() -> None:
    after, result, _ = sparse(network(), store="sparse")
    assert result.metrics["stored_sparsely"] == 0
    assert "0 stored as sparse constants, 4 smaller as they are" in result.notes
    assert not any(isinstance(v.stored, ir.SparseTensor) for v in after.initializers)
    assert result.metrics["deflated_after"] < result.metrics["deflated_before"]


def test_old_ir_versions_are_raised_or_kept_dense() -> None:
    for version, stored in ((3, 0), (4, 1), (8, 1)):
        model = network()
        model.ir_version = version
        if version == 3:
            for value in model.initializers:
                model.add_input(value)
        result = SparsifyWeights(sparsity=0.9, include=("first",), store="sparse").run(
            model, context()
        )
        assert result.metrics["stored_sparsely"] == stored
        assert model.ir_version == (3 if version == 3 else max(version, 6))


@pytest.mark.parametrize(
    "options",
    [{"sparsity": 1.0}, {"sparsity": -0.1}, {"pattern": "3"}, {"method": "x"}, {"store": "zip"}],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as raised:
        SparsifyWeights(**options)
    assert raised.value.code == "G103"
    assert raised.value.hint
