"""The recurrent models: few operators are left, and the outputs are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.passes.rewrite.convert_conv_to_matmul import ConvertConvToMatmul
from graphopt.passes.rewrite.fuse_layer_norm import FuseLayerNorm
from graphopt.passes.rewrite.merge_data_movement import MergeDataMovement
from graphopt.passes.rewrite.merge_matrix_products import MergeMatrixProducts
from graphopt.passes.rewrite.sink_reshapes import SinkReshapes
from graphopt.passes.rewrite.unroll_lstm import UnrollLstm
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.passes.simplify.fuse_matmul_add import FuseMatmulAdd
from graphopt.passes.simplify.upgrade_opset import UpgradeOpset
from graphopt.runtime import census
from graphopt.testing import assert_same_outputs, context, graph, random_feeds

if TYPE_CHECKING:
    from pathlib import Path

_PASSES = (
    UpgradeOpset(), FoldConstants(), FuseLayerNorm(), UnrollLstm(always=True),
    ConvertConvToMatmul(), MergeMatrixProducts(), MergeDataMovement(), SinkReshapes(),
    FuseMatmulAdd(),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("dtln_model_1", 31), ("dtln_model_2", 37)])
def test_models_shrink_and_stay_exact(shared: Path, name: str, most: int) -> None:
    before = ir.load(shared / "models" / f"{name}.onnx")
    after = before.copy()
    for step in _PASSES:
        step.run(after, context())
        ir.verify(after)
    assert census(after).executed <= most
    assert_same_outputs(before, after, random_feeds(before, count=3), rtol=1e-4, atol=1e-5)


def test_products_that_somebody_else_reads_are_not_merged() -> None:
    model = graph("""m (float[1, 3] x, float[1, 2] h) => (float[1, 4] y, float[1, 4] p)
      <float[3, 4] w, float[2, 4] r> {
        p = MatMul (x, w)
        q = MatMul (h, r)
        y = Add (p, q)
    }""")
    assert not MergeMatrixProducts().run(model, context()).modified


def test_sums_of_three_products_become_one() -> None:
    before = graph("""m (float[2, 3] x, float[2, 2] h, float[2, 1] z) => (float[2, 4] y)
      <float[3, 4] w, float[2, 4] r, float[1, 4] v> {
        p = MatMul (x, w)
        q = MatMul (h, r)
        s = Add (p, q)
        t = MatMul (z, v)
        y = Add (t, s)
    }""")
    after = before.copy()
    for _ in range(2):
        MergeMatrixProducts(max_rows=2).run(after, context())
    assert len(after.nodes("MatMul")) == 1
    assert_same_outputs(before, after, random_feeds(before), rtol=1e-5, atol=1e-5)


def test_normalization_by_a_power_and_a_middle_axis_that_is_last() -> None:
    before = graph("""m (float[2, 3, 4] x) => (float[2, 3, 4] y)
      <float[4] scale, float[4] shift, float eps = {0.5}, float two = {2.0}> {
        mean = ReduceMean <axes = [2]> (x)
        centred = Sub (x, mean)
        square = Pow (centred, two)
        variance = ReduceMean <axes = [-1]> (square)
        above = Add (variance, eps)
        deviation = Sqrt (above)
        unit = Div (centred, deviation)
        scaled = Mul (scale, unit)
        y = Add (shift, scaled)
    }""")
    after = before.copy()
    assert FuseLayerNorm().run(after, context()).modified
    assert [n.op for n in after.nodes()] == ["LayerNormalization"]
    assert_same_outputs(before, after, random_feeds(before), rtol=1e-5, atol=1e-5)
