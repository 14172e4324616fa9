"""Pooling and resizing: channels go through, positions stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.analysis.coupling import couple
from graphopt.passes.prune.removal.remove_units import remove_units
from graphopt.testing import graph
from tests.unit.analysis.coupling.pruning import RULES, assert_oracle, coupled, prune_at_random

if TYPE_CHECKING:
    from graphopt import ir

CHAIN = """
g (float[2,3,4,6] x) => (float[2,2,H,W] y)
<float[8,3,1,1] first, float[2,8,1,1] second, {constants}> {{
  a = Conv(x, first)
  {lines}
  y = Conv(b, second)
}}
"""


def chain(lines: str, constants: str = "float unused", opset: int = 17) -> ir.Graph:
    return graph(CHAIN.format(lines=lines, constants=constants), opset=opset)


@pytest.mark.parametrize(
    "line",
    [
        "b = MaxPool<kernel_shape = [2, 2]>(a)",
        "b = AveragePool<kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1]>(a)",
        "b = LpPool<kernel_shape = [1, 3]>(a)",
        "b = GlobalAveragePool(a)",
        "b = GlobalMaxPool(a)",
        "b = GlobalLpPool<p = 2>(a)",
        "c, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)\n"
        "b = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(c, i)",
        "c, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)\n"
        "b = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(c, i, k)",
        "b = MaxRoiPool<pooled_shape = [2, 2]>(a, r)",
        "b = RoiAlign<output_height = 2, output_width = 3>(a, q, n)",
        "b = GridSample(a, grid)",
    ],
)
def test_channels_go_through_a_pool(line: str) -> None:
    constants = (
        "int64[4] k = {2, 8, 4, 6}, float[2,5] r = {0, 0, 0, 3, 3, 1, 1, 1, 3, 3}, "
        "float[2,4] q = {0, 0, 3, 3, 0, 0, 2, 2}, "
        "int64[2] n = {0, 1}, float[2,3,3,2] grid"
    )
    made = chain(line, constants)
    if "(c, i, k)" in line:
        made.value("b").shape = (2, 8, 4, 6)  # onnx does not infer it
    (group,) = assert_oracle(made).groups
    assert (group.name, group.size, group.is_exact) == ("first", 8, True)


def test_positions_stay_and_say_why() -> None:
    made, found = coupled(chain("b = GlobalAveragePool(a)"))
    assert "GlobalAveragePool `b` pools over it" in [w for _, w in found.why(made.value("a"), 2)]


@pytest.mark.parametrize(
    "line",
    [
        "b, i = MaxPool<kernel_shape = [2, 2]>(a)\n j = Cast<to = 1>(i)",
        "b, i = MaxPool<kernel_shape = [2, 2], storage_order = 1>(a)",
        "c, i = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(a)\n"
        "b = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(c, i, k)",
    ],
)
def test_places_that_are_read_otherwise_keep_all_channels(line: str) -> None:
    _, found = coupled(chain(line, "int64[4] k = {2, 8, 5, 7}"))
    assert not found.groups


@pytest.mark.parametrize(
    ("line", "opset"),
    [
        ('b = Resize<mode = "nearest">(a, s)', 10),
        ('b = Resize<mode = "linear">(a, , s)', 17),
        ('b = Resize<mode = "cubic">(a, , s)', 17),
        ("b = Resize(a, none, s)", 11),
        ("b = Resize(a, , , z)", 17),
        ("b = Resize(a, , none, z)", 13),
        ("b = Resize<axes = [2, 3]>(a, , , two)", 18),
        ("b = Resize<axes = [-1, 1]>(a, , , pair)", 18),
        ('b = Resize<axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(a, , , two)', 18),
        (
            'b = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">'
            "(a, roi, s)",
            17,
        ),
        ("b = Upsample(a, s)", 9),
        ("b = Upsample<scales = [1.0, 1.0, 2.0, 2.0]>(a)", 7),
    ],
)
def test_channels_that_are_not_scaled_go_through(line: str, opset: int) -> None:
    constants = (
        "float[4] s = {1, 1, 2, 1.5}, int64[4] z = {2, 8, 8, 9}, int64[2] two = {8, 9}, "
        "int64[2] pair = {9, 8}, float[0] none, float[8] roi = {0, 0, 0.2, 0.2, 1, 1, 0.8, 0.8}"
    )
    (group,) = assert_oracle(chain(line, constants, opset)).groups
    assert (group.name, group.size) == ("first", 8)


def test_sizes_are_rewritten_for_this_node_alone() -> None:
    made = graph("""
    g (float[1,3,4] x) => (float[1,2,7] y, float[1,2,8] z)
    <float[6,3,1] first, float[2,6,1] second, float[6,3,1] third, int64[3] sizes = {1, 6, 7},
     float[2,6,1] fourth> {
      a = Conv(x, first)
      b = Resize(a, , , sizes)
      y = Conv(b, second)
      c = Conv(x, third)
      d = Resize(c, , , sizes)
      z = Conv(d, fourth)
    }
    """)
    made.value("z").shape = (1, 2, 7)
    assert_oracle(made)
    pruned, _, _, _ = prune_at_random(made)
    sizes = [node.inputs[3].array().tolist() for node in pruned.nodes("Resize") if node.inputs[3]]
    assert sizes == [[1, 3, 7], [1, 3, 7]]


@pytest.mark.parametrize(
    ("line", "opset"),
    [
        ("b = Resize(a, , up)", 17),
        ('b = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn">(a, , s)', 17),
        ('b = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(a, roi, s)', 17),
        ('b = Resize<keep_aspect_ratio_policy = "not_smaller">(a, , , z)', 18),
        ("c = Shape(x)\n d = Cast<to = 1>(c)\n b = Resize(a, , d)", 17),
    ],
)
def test_what_may_be_scaled_stays(line: str, opset: int) -> None:
    constants = (
        "float[4] up = {1, 2, 1, 1}, float[4] s = {1, 1, 2, 2}, int64[4] z = {2, 8, 8, 9},"
        "float[8] roi = {0, 0.1, 0, 0, 1, 1, 1, 1}"
    )
    made = chain(line, constants, opset)
    _, found = coupled(made)
    assert not found.groups


def test_a_size_that_is_computed_is_patched() -> None:
    made = chain(
        "c = Shape(a)\n d = Add(c, more)\n b = Resize(a, , , d)", "int64[4] more = {0,0,2,1}"
    )
    made.value("b").shape = (2, 8, 6, 7)
    (group,) = assert_oracle(made).groups
    assert group.size == 8


def test_channels_that_come_last() -> None:
    made = graph("""
    g (float[1,4,4,3] x) => (float[1,3,3,2] y)
    <float[3,8] first, float[8,2] second, float scale = {0.1}, uint8 zero = {128}> {
      a = MatMul(x, first)
      q = QuantizeLinear(a, scale, zero)
      p = com.microsoft.NhwcMaxPool<kernel_shape = [2, 2]>(q)
      b = DequantizeLinear(p, scale, zero)
      y = MatMul(b, second)
    }
    """)
    made.value("p").dtype = made.value("q").dtype
    made.value("p").shape = made.value("b").shape = (1, 3, 3, 8)
    (group,) = assert_oracle(made).groups
    assert group.size == 8


def test_a_grid_is_made_for_all_channels() -> None:
    made = graph(
        """
    g (float[2,2,3] x, float[2,3,4,4] z) => (float[2,2,5,5] y)
    <int64[4] size = {2, 3, 5, 5}, float[2,3,1,1] last> {
      a = AffineGrid(x, size)
      b = GridSample(z, a)
      y = Conv(b, last)
    }
    """,
        opset=20,
    )
    _, found = coupled(made)
    assert not found.groups


def test_a_mean_per_channel_in_an_attribute_is_cut() -> None:
    made = chain("b = Relu(a)")
    made.nodes("Relu")[0].op = "ImageScaler"
    scaler = made.nodes("ImageScaler")[0]
    scaler.set_attribute("bias", [float(i) for i in range(8)])
    made.value("a").shape = made.value("b").shape = (2, 8, 4, 6)
    made.value("y").shape = (2, 2, 4, 6)
    keep = np.arange(8) % 2 == 0
    remove_units(made, couple(made, RULES).cut({"first": keep}), RULES)
    assert scaler.attribute("bias") == [0.0, 2.0, 4.0, 6.0]
