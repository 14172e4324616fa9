"""The bridge to onnx-graphsurgeon: same function both ways, and what it drops comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper as h

from graphopt import ir
from graphopt.testing import random_feeds
from tests.unit.ir.running import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["digits_resnet", "waveform_transformer"])
def test_a_model_computes_the_same_after_both_ways(models: Path, name: str) -> None:
    graph = ir.load(models / f"{name}.onnx")
    feeds = random_feeds(graph)[0]
    before = run(ir.to_bytes(graph), feeds)
    surgeon = ir.to_graphsurgeon(graph)
    assert isinstance(surgeon, gs.Graph)
    again = ir.from_graphsurgeon(surgeon, like=graph)
    ir.verify(again)
    assert again.metadata == graph.metadata
    assert again.opsets == graph.opsets
    for expected, found in zip(before, run(ir.to_bytes(again), feeds), strict=True):
        np.testing.assert_array_equal(found, expected)


def _described() -> ir.Graph:
    nodes = [
        h.make_node("Relu", ["x"], ["a"], name="first", doc_string="of a node"),
        h.make_node("Neg", ["a"], ["y"], name="second"),
    ]
    nodes[0].metadata_props.add(key="namespace", value="layer")
    info = h.make_tensor_value_info
    graph = h.make_graph(nodes, "g", [info("x", 1, ["N"])], [info("y", 1, ["N"])])
    model = h.make_model(
        graph, opset_imports=[h.make_opsetid("", 17), h.make_opsetid("d", 2)], ir_version=9
    )
    model.producer_name = "exporter"
    model.metadata_props.add(key="key", value="value")
    return ir.from_bytes(model.SerializeToString())


def test_an_edit_made_there_arrives_here_with_what_graphsurgeon_drops() -> None:
    graph = _described()
    surgeon = ir.to_graphsurgeon(graph)
    surgeon.nodes[1].op = "Abs"
    again = ir.from_graphsurgeon(surgeon, like=graph)
    ir.verify(again)
    assert [n.op for n in again.nodes()] == ["Relu", "Abs"]
    found = onnx.ModelProto.FromString(ir.to_bytes(again))
    assert found.producer_name == "exporter"
    assert {p.key: p.value for p in found.metadata_props} == {"key": "value"}
    assert found.graph.node[0].doc_string == "of a node"
    assert found.graph.node[0].metadata_props[0].value == "layer"
    assert {o.domain: o.version for o in found.opset_import} == {"": 17, "d": 2}


def test_without_a_model_to_compare_what_is_there_is_taken() -> None:
    again = ir.from_graphsurgeon(ir.to_graphsurgeon(_described()))
    assert [n.name for n in again.nodes()] == ["first", "second"]
    assert [v.name for v in again.inputs] == ["x"]
    assert again.opset == 17
