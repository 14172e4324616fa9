"""The target as the registry finds it, and what graphopt makes of a model for it."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import numpy as np

import graphopt
from graphopt.registry import Registry
from graphopt.targets.fusion import fusion_table
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
small (float[1, 4, 8, 8] x) => (float[1, 8, 8, 8] y)
<float[8, 4, 3, 3] w>
{
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    b = Relu (a)
    y = Sigmoid (b)
}
"""


def test_the_target_is_registered_with_rules_of_its_own() -> None:
    target = Registry().target("openvino-cpu")
    table = fusion_table(target.runtime)
    assert (table.name, target.provider) == ("openvino", "OpenVINOExecutionProvider")
    rule = table.rule("Conv")
    assert rule is not None
    assert rule.kernel == "QLinearConv"
    assert table.rule("Sigmoid") is None
    assert target.compute.macs_per_cycle["int8"] > target.compute.macs_per_cycle["float32"]


def test_it_is_this_machine_only_where_the_provider_is_installed() -> None:
    try:
        importlib.metadata.version("onnxruntime-openvino")
    except importlib.metadata.PackageNotFoundError:
        assert not Registry().target("openvino-cpu").is_host
    else:
        assert Registry().target("openvino-cpu").is_host


def test_a_model_is_compiled_with_the_sigmoid_in_float(tmp_path: Path) -> None:
    data = tmp_path / "x.npz"
    np.savez(data, x=np.random.default_rng(1).normal(size=(16, 4, 8, 8)).astype(np.float32))
    compiled = graphopt.compile(
        graph(MODEL), target="openvino-cpu", data=data, recipe="integer", measure=False
    )
    (convolution,) = compiled.graph.nodes("Conv")
    assert [v.producer.op for v in convolution.inputs[:2] if v is not None and v.producer] == [
        "DequantizeLinear",
        "DequantizeLinear",
    ]
    (sigmoid,) = compiled.graph.nodes("Sigmoid")
    assert not [node for node in sigmoid.outputs[0].consumers if node.op == "QuantizeLinear"]
