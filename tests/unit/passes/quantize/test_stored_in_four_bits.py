"""Weights in 4 bits in the file: the same kernels, little noise, and constants by what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import graphopt
from graphopt import ir
from graphopt.errors import RecipeError
from graphopt.passes.quantize.storage.regular import store_regular
from graphopt.passes.quantize.storage.weights import stored_weights
from graphopt.passes.quantize.store_weights import StoreWeights
from graphopt.pipeline.verifier import snr_db
from graphopt.runtime import census, open_session
from graphopt.testing import context, graph
from graphopt.types import DType

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph

FLOAT = """m (float[N, 32, 6, 6] x) => (float[N, 40] z)
    <float[48, 32, 3, 3] w, float[48] b, float[48, 1, 3, 3] d, float[48, 40] m> {
  a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  e = Conv <group = 48, pads = [1, 1, 1, 1]> (a, d)
  y = Relu (e)
  p = GlobalAveragePool (y)
  f = Flatten (p)
  z = MatMul (f, m) }"""
INTEGER = """m (float[N, 32, 6, 6] x) => (float[N, 48, 6, 6] z)
    <int8[48, 32, 3, 3] w, float[48] s, float t, uint8 o> {
  q = QuantizeLinear (x, t, o)
  a = DequantizeLinear (q, t, o)
  v = DequantizeLinear <axis = 0> (w, s)
  c = Conv <pads = [1, 1, 1, 1]> (a, v)
  u = QuantizeLinear (c, t, o)
  z = DequantizeLinear (u, t, o) }"""


def integer_model() -> Graph:
    random = np.random.default_rng(1)
    codes = np.clip(random.normal(0, 40, (48, 32, 3, 3)), -127, 127).astype(np.int8)
    constants = {"s": np.full(48, 1e-3), "t": np.asarray(0.05), "o": np.asarray(128, np.uint8)}
    told = {k: v if v.dtype == np.uint8 else v.astype(np.float32) for k, v in constants.items()}
    return graph(INTEGER, opset=21, w=codes, **told)


def noise(before: Graph, after: Graph) -> float:
    feed = {"x": np.random.default_rng(0).standard_normal((2, 32, 6, 6)).astype(np.float32)}
    return snr_db(open_session(before).run(feed), open_session(after).run(feed))


def test_weights_of_all_kinds_are_found_with_their_rows() -> None:
    found = {w.value.name: w for w in stored_weights(graph(FLOAT), 64)}
    assert set(found) == {"w", "d", "m"}
    assert found["m"].columns
    assert found["w"].rows(np.zeros((48, 32, 3, 3))).shape == (48, 288)
    assert found["m"].rows(np.zeros((48, 40))).shape == (40, 48)


@pytest.mark.parametrize(("share", "least_db", "most"), [(0.0, 38, 0.30), (1.0, 16, 0.19)])
def test_the_file_shrinks_and_the_kernels_stay(share: float, least_db: float, most: float) -> None:
    model = graph(FLOAT, opset=21)
    after = model.copy()
    step = StoreWeights("float16", smallest=64, eight_bits=True, four_bits=share)
    assert step.run(after, context()).modified
    ir.verify(after)
    assert ir.tensor_bytes(after) < most * ir.tensor_bytes(model)
    assert census(after).kernels == census(model).kernels
    assert noise(model, after) > least_db


def test_integers_are_stored_in_half_and_computed_as_before() -> None:
    model = integer_model()
    after = model.copy()
    StoreWeights("off", four_bits=1.0).run(after, context())
    ir.verify(after)
    assert ir.tensor_bytes(after) < 0.62 * ir.tensor_bytes(model)
    kernels = census(after).kernels
    assert kernels == census(model).kernels
    assert any("QLinearConv" in name for name in kernels)
    assert noise(model, after) > 15


def test_the_least_harmful_weights_get_four_bits_first() -> None:
    rough = np.random.default_rng(2).standard_normal((48, 40)).astype(np.float32)
    rough[::7] *= 50.0  # outliers in every block: four bits do badly
    model = graph(FLOAT, opset=21, m=rough)
    StoreWeights("off", smallest=64, four_bits=0.9).run(model, context())
    assert model.find("m") is not None
    assert model.find("w") is None


def test_a_share_that_is_none_is_the_recipes_fault() -> None:
    with pytest.raises(RecipeError, match=r"`four-bits` is 1\.5"):
        StoreWeights(four_bits=1.5)
    with pytest.raises(RecipeError, match="`names` is"):
        StoreWeights(names="long")  # type: ignore[arg-type]


MASKS = """m (float[4, 32, 32] x, float[1, 30, 8] y) => (float[4, 32, 32] a, float[1, 30, 8] b) <
    float[32, 32] m, float[1, 30, 8] r> {
  a = Add (x, m)
  b = Mul (y, r) }"""


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("diagonal", [-2, 0, 1])
@pytest.mark.parametrize("value", [-np.inf, -1e9, 1.0])
def test_masks_and_repetitions_are_stored_by_what_they_follow_from(
    upper: bool, diagonal: int, value: float
) -> None:
    cut = np.triu if upper else np.tril
    full = np.full((32, 32), value, np.float32)
    mask = np.where(cut(np.ones((32, 32)), diagonal) > 0, full, np.float32(0))
    rows = np.repeat(np.arange(30, dtype=np.float32)[None, :, None], 8, axis=2)
    model = graph(MASKS, m=mask, r=rows)
    after = model.copy()
    assert store_regular(after, 256) == 2
    after.sort()
    ir.verify(after)
    assert ir.tensor_bytes(after) < 300
    feed = {"x": np.ones((4, 32, 32), np.float32), "y": np.ones((1, 30, 8), np.float32)}
    pairs = zip(open_session(model).run(feed), open_session(after).run(feed), strict=True)
    for wanted, found in pairs:
        np.testing.assert_array_equal(found, wanted)


def test_irregular_constants_stay() -> None:
    model = graph(MASKS)
    assert store_regular(model, 256) == 0
    almost = np.triu(np.ones((32, 32), np.float32), 1)
    almost[3, 9] = -0.0
    assert store_regular(graph(MASKS, m=almost), 256) == 0


def test_names_inside_are_shortened_and_those_outside_kept() -> None:
    model = graph(FLOAT)
    after = model.copy()
    StoreWeights("off", names="short").run(after, context())
    ir.verify(after)
    assert [v.name for v in after.inputs] == ["x"]
    assert [v.name for v in after.outputs] == ["z"]
    assert all(len(v.name) == 1 for v in after.values())
    assert noise(model, after) > 100


def test_a_recipe_stores_a_trained_model_in_a_quarter(models: Path) -> None:
    path = models / "digits_resnet.onnx"
    told = ("format=float16", "eight-bits=true", "four-bits=0.5", "names=short", "smallest=64")
    compiled = graphopt.compile(
        path,
        target="x86",
        data=models / "digits.npz",
        overrides=["insert-qdq.placement=float", *(f"store-weights.{t}" for t in told)],
        measure=False,
    )
    record = compiled.report.passes[-1]
    assert record.status == "changed"
    assert any(v.dtype is DType.INT4 for v in compiled.graph.initializers)
    assert compiled.report.result.size_bytes < 0.3 * path.stat().st_size
