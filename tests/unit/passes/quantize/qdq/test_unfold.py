"""A convolution of one channel is unfolded into one of several, and computes the same."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.passes.quantize.insert_qdq import InsertQdq
from graphopt.runtime import census
from graphopt.testing import assert_same_outputs, context, graph, named_target, random_feeds

STEM = """m (float[N, 1, H, 12] x) => (float[N, 16, H, W] y)
    <float[16, 1, {h}, {w}] k, float[16] b> {{
  [stem] y = Conv <pads = [{p}], strides = [{s}]> (x, k, b) }}"""
RANGES = {"x": (-3.0, 3.0), "y": (-90.0, 90.0)}


def quantized(text: str, *, align: bool) -> ir.Graph:
    model = graph(text)
    InsertQdq(placement="integer", align=align).run(model, context(ranges=RANGES))
    model.sort()
    ir.verify(model)
    return model


@pytest.mark.parametrize(
    ("height", "width", "pads"),
    [(5, 5, "2, 2, 2, 2"), (3, 3, "1, 1, 1, 1"), (3, 7, "0, 3, 2, 1"), (5, 5, "0, 0, 0, 0")],
)
def test_the_integers_are_the_same(height: int, width: int, pads: str) -> None:
    text = STEM.format(h=height, w=width, p=pads, s="1, 1")
    plain, unfolded = quantized(text, align=False), quantized(text, align=True)
    assert len(unfolded.nodes("Slice")) == width
    feeds = random_feeds(plain, count=3, size=9)
    assert_same_outputs(plain, unfolded, feeds, rtol=0, atol=0)


def test_it_is_one_integer_convolution_with_full_blocks_of_channels() -> None:
    model = quantized(STEM.format(h=5, w=5, p="2, 2, 2, 2", s="1, 1"), align=True)
    (conv,) = model.nodes("Conv")
    dequantize = conv.inputs[1].producer if conv.inputs[1] is not None else None
    assert dequantize is not None
    assert dequantize.inputs[0] is not None
    assert dequantize.inputs[0].shape == (16, 8, 5, 1)
    assert census(model, named_target("x86-avx512-vnni")).kernels["com.microsoft.QLinearConv"] == 1


@pytest.mark.parametrize(
    "text",
    [
        STEM.format(h=5, w=5, p="2, 2, 2, 2", s="2, 2"),  # every second column
        STEM.format(h=5, w=1, p="2, 0, 2, 0", s="1, 1"),  # nothing to shift
    ],
)
def test_what_cannot_gain_is_only_padded(text: str) -> None:
    model = quantized(text, align=True)
    assert not model.nodes("Slice", "Concat")
    assert len(model.nodes("Pad")) == 1


def test_an_arm_kernel_takes_one_channel_as_it_is() -> None:
    model = graph(STEM.format(h=5, w=5, p="2, 2, 2, 2", s="1, 1"))
    InsertQdq(placement="integer").run(model, context(target="arm", ranges=RANGES))
    assert not model.nodes("Slice", "Concat", "Pad")


def test_data_is_rearranged_as_integers_on_its_way_out() -> None:
    text = """m (float[N, 16, 8, 8] x) => (float[N, 1, 24, 24] z) <float[9, 16, 3, 3] k> {
      [conv] y = Conv <pads = [1, 1, 1, 1]> (x, k)
      z = DepthToSpace <blocksize = 3> (y) }"""
    model = graph(text)
    ranges = {"x": (-3.0, 3.0), "y": (-90.0, 90.0), "z": (-90.0, 90.0)}
    InsertQdq(placement="integer").run(model, context(ranges=ranges))
    model.sort()
    ir.verify(model)
    (rearranged,) = model.nodes("DepthToSpace")
    assert rearranged.inputs[0] is not None
    assert rearranged.inputs[0].producer is not None
    assert rearranged.inputs[0].producer.op == "DequantizeLinear"
    # The runtime drops the pair around it; the 9 channels are still padded for the fast kernel.
    kernels = census(model, named_target("x86-avx512-vnni")).kernels
    assert kernels["DequantizeLinear"] == 1
    weight = model.nodes("Conv")[0].inputs[1]
    assert weight is not None
    assert weight.producer is not None
    assert weight.producer.inputs[0] is not None
    assert (weight.producer.inputs[0].shape or ())[0] == 16
