"""Estimates on several targets, and what int8 and pruning would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt import ir
from graphopt.api.estimates import estimate_targets
from graphopt.api.what_if import in_integers, with_fewer_channels
from graphopt.errors import GraphOptError
from graphopt.registry import Registry
from graphopt.testing import graph, named_target

if TYPE_CHECKING:
    from pathlib import Path

NET = """
net (float[1, 16, 16, 16] x) => (float[1, 10] y)
<float[32, 16, 3, 3] w1, float[32, 32, 3, 3] w2, float[10, 32] w3>
{
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1]> (b, w2)
    d = Relu (c)
    e = GlobalAveragePool (d)
    f = Flatten (e)
    y = Gemm <transB = 1> (f, w3)
}
"""


def test_a_row_per_target_in_the_order_asked_for() -> None:
    found = estimate_targets(graph(NET), ["wasm", "arm", "host"], registry=Registry())
    assert [row.target for row in found.rows] == ["wasm", "arm64-dotprod", "host"]
    assert found.compared == ()
    faster = {
        row.target: {answer.change: answer.times_faster for answer in row.what_if}
        for row in found.rows
    }
    # onnxruntime-web has no integer dot products; Arm's has.
    assert 1 < faster["wasm"]["int8"] < faster["arm64-dotprod"]["int8"]
    assert all(1 < changes["pruned"] < 2 for changes in faster.values())


def test_another_model_is_estimated_on_the_same_targets() -> None:
    half = NET.replace("32", "16")
    found = estimate_targets(graph(NET), ["arm", "host"], compare=graph(half), what_if=False)
    assert [row.target for row in found.compared] == [row.target for row in found.rows]
    for first, second in zip(found.rows, found.compared, strict=True):
        assert first.what_if == second.what_if == ()
        assert second.estimate.macs < first.estimate.macs


def test_in_integers_places_q_and_dq_without_data() -> None:
    made = in_integers(graph(NET), named_target("host"), Registry())
    assert made is not None
    ir.verify(made)
    for node in made.nodes("Conv"):
        assert node.inputs[0] is not None
        assert node.inputs[0].producer is not None
        assert node.inputs[0].producer.op == "DequantizeLinear"


def test_a_quarter_of_every_group_goes_and_the_given_model_stays() -> None:
    given = graph(NET)
    before = ir.structural_hash(given)
    made = with_fewer_channels(given, 0.25, named_target("host"), Registry())
    assert made is not None
    shapes = {v.name: v.shape for v in made.initializers}
    assert (shapes["w1"], shapes["w2"], shapes["w3"]) == ((24, 16, 3, 3), (24, 24, 3, 3), (10, 24))
    assert ir.structural_hash(given) == before


def test_nothing_to_change_is_no_answer() -> None:
    plain = graph("plain (float[4] x) => (float[4] y) { y = Relu (x) }")
    assert in_integers(plain, named_target("host"), Registry()) is None
    assert with_fewer_channels(plain, 0.25, named_target("host"), Registry()) is None
    assert estimate_targets(plain, ["host"]).rows[0].what_if == ()


def test_the_plan_of_the_activations_and_what_does_not_fit() -> None:
    (row,) = estimate_targets(graph(NET), ["cortex-m4"], what_if=False).rows
    memory = row.memory
    # The first convolution's result and the second one's: 32 channels of 16 x 16 floats each.
    assert memory.planned_bytes == memory.lower_bound == 2 * 32 * 16 * 16 * 4
    assert memory.is_optimal
    assert memory.fit.fits
    (tight,) = estimate_targets(graph(NET), ["cortex-m4"], what_if=False, max_ram=1 << 15).rows
    assert not tight.memory.fit.fits
    assert tight.memory.fit.hopeless
    assert "Conv" in tight.memory.fit.crowded[0][0]
    (small,) = estimate_targets(graph(NET), ["host"], what_if=False, max_flash=1000).rows
    assert (small.memory.fit.fits_ram, small.memory.fit.fits_flash) == (True, False)


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(GraphOptError) as raised:
        estimate_targets(graph(NET), ["host", "toaster"])
    assert raised.value.code == "G501"


def test_int8_is_predicted_to_be_slower_where_it_is(shared: Path) -> None:
    model = shared / "models/imagenet_proxyless_w025_r112.onnx"
    row = estimate_targets(model, ["x86-avx512-vnni"]).rows[0]
    # Measured, placement.md: x0.85 with every operator in integers.
    assert {answer.change: answer.times_faster < 1 for answer in row.what_if}["int8"]
