"""The kernels that are priced are the ones that onnxruntime executes on this machine."""

from __future__ import annotations

import platform
from collections import Counter

import onnx
import onnxruntime
import pytest

from graphopt import ir
from graphopt.types import DType

pytestmark = pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"},
    reason="the layouts of x86 are compared; other builds of onnxruntime have others",
)


def executed(graph: ir.Graph, folder) -> Counter[str]:
    """Return the operators of the graph that onnxruntime runs at full optimisation."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4  # the warning about a hardware-specific file
    onnxruntime.InferenceSession(ir.to_bytes(graph), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    names = (node.op_type for node in nodes)
    return Counter("Reorder" if name.startswith("Reorder") else name for name in names)


@pytest.fixture
def priced(estimate):
    """Return a function: the kernels that the estimate counts, under onnxruntime's names."""

    def run(graph: ir.Graph) -> Counter[str]:
        names = (kernel.kernel for kernel in estimate(graph).kernels)
        return Counter("Conv" if name == "FusedConv" else name for name in names)

    return run


def residual(built):
    skip = built.conv(16).end
    return built.conv(16, relu=False).add(skip).conv(32, stride=2).conv(32, group=32).conv(16, 1)


def pooled(built):
    pool = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
    return built.conv(16).operator("MaxPool", **pool).conv(16, 1)


def classifier(built):
    return built.conv(16).conv(32, 1).pool_and_flatten().dense(10)


@pytest.mark.parametrize("build", [residual, pooled, classifier])
@pytest.mark.parametrize("dtype", [None, DType.UINT8])
def test_kernels_are_the_executed_ones(net, priced, tmp_path, build, dtype):
    graph = build(net((1, 16, 16, 16), dtype)).done()
    ir.infer_shapes(graph)
    assert priced(graph) == executed(graph, tmp_path)
