"""Generated graphs through the door: equal protobuf, equal outputs, and no surprise on damage."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import ir
from graphopt.errors import GraphOptError
from tests.strategies import Feeds, any_models, runnable_models
from tests.unit.ir.running import assert_same_outputs

# Building a model takes hypothesis longer than its default deadline allows now and then.
FEW = settings(max_examples=60, deadline=None)


@FEW
@given(runnable_models())
def test_a_runnable_model_round_trips_and_computes_the_same(case: Feeds) -> None:
    onnx.checker.check_model(case.model)
    before = case.model.SerializeToString()
    graph = ir.from_bytes(before)
    ir.verify(graph)
    after = ir.to_bytes(graph)
    assert onnx.ModelProto.FromString(after) == case.model
    assert_same_outputs(before, after, case.feeds)


@FEW
@given(any_models())
def test_any_legal_model_round_trips(model: onnx.ModelProto) -> None:
    graph = ir.from_bytes(model.SerializeToString())
    ir.verify(graph)
    copy = graph.copy()
    assert onnx.ModelProto.FromString(ir.to_bytes(graph)) == model
    assert onnx.ModelProto.FromString(ir.to_bytes(copy)) == model
    assert ir.structural_hash(copy) == ir.structural_hash(graph)
    assert ir.to_text(copy) == ir.to_text(graph)


@FEW
@given(runnable_models())
def test_sorting_shape_inference_and_copies_keep_the_outputs(case: Feeds) -> None:
    before = case.model.SerializeToString()
    graph = ir.from_bytes(before).copy()
    order = graph.nodes()
    graph.sort()
    assert graph.nodes() == order
    digest = ir.structural_hash(graph)
    ir.infer_shapes(graph)
    assert ir.structural_hash(graph) == digest
    ir.verify(graph)
    assert_same_outputs(before, ir.to_bytes(graph), case.feeds)


@FEW
@given(runnable_models(), st.data())
def test_renaming_everything_changes_no_output(case: Feeds, data: st.DataObject) -> None:
    before = case.model.SerializeToString()
    graph = ir.from_bytes(before)
    interface = {*graph.inputs, *graph.outputs}
    for value in graph.values():
        if value not in interface and data.draw(st.booleans()):
            graph.rename(value, graph.unique_name("renamed"))
    ir.verify(graph)
    assert_same_outputs(before, ir.to_bytes(graph), case.feeds)


@FEW
@given(runnable_models(), st.data())
def test_an_identity_in_front_of_all_uses_changes_no_output(
    case: Feeds, data: st.DataObject
) -> None:
    before = case.model.SerializeToString()
    graph = ir.from_bytes(before)
    value = data.draw(st.sampled_from([o for n in graph.nodes() for o in n.outputs if o.name]))
    node = graph.add_node("Identity", [None])
    graph.replace_uses(value, node.outputs[0])
    node.set_inputs([value])
    graph.sort()
    ir.verify(graph)
    assert [v.name for v in graph.outputs] == [o.name for o in case.model.graph.output]
    assert_same_outputs(before, ir.to_bytes(graph), case.feeds)


@FEW
@given(any_models())
def test_external_data_holds_the_same_values(model: onnx.ModelProto) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        onnx.save_model(
            model,
            path,
            save_as_external_data=True,
            size_threshold=0,
            convert_attribute=True,
            location="weights",
        )
        graph = ir.load(path)
        ir.verify(graph)
        moved = Path(folder) / "moved"
        moved.mkdir()
        ir.save(graph, moved / "copy.onnx", external=True)
        found = onnx.ModelProto.FromString(ir.to_bytes(ir.load(moved / "copy.onnx")))
        assert _plain(found) == _plain(onnx.load(path))


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the mark of where values lie: onnx sets it when it loads, to what unset means."""
    stack: list[Any] = [model.graph]
    while stack:
        graph = stack.pop()
        tensors = [*graph.initializer]
        for attribute in [a for n in graph.node for a in n.attribute]:
            stack += [attribute.g, *attribute.graphs]
            tensors += [attribute.t, *attribute.tensors]
        for tensor in tensors:
            tensor.ClearField("data_location")
    return model


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_an_error_with_a_code_or_still_a_model(data: st.DataObject) -> None:
    whole = bytearray(_sample())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)) | st.just(len(whole)))
    error = _read(bytes(whole[:cut]))
    assert error is None or error.code in {"G202", "G203", "G204", "G205", "G208", "G209"}
    assert error is None or error.where or error.hint


def _read(data: bytes) -> GraphOptError | None:
    """Do everything that a compile does before the first pass; return what it complains about."""
    try:
        graph = ir.from_bytes(data)
        ir.verify(graph)
        ir.infer_shapes(graph)
        ir.to_text(graph)
        ir.structural_hash(graph)
        ir.from_bytes(ir.to_bytes(graph))
    except GraphOptError as error:
        return error
    return None


def _sample() -> bytes:
    text = """<ir_version: 8, opset_import: ["" : 17, "local": 1], metadata_props: ["k": "v"]>
    g (float[N, 3] x, bool c) => (float[N, 3] y)
    <float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, int64[2] s = {-1, 3}>
    {
        a = MatMul(x, w)
        b = If (c) <then_branch = t () => (float[N, 3] d) { d = Neg(a) },
                    else_branch = e () => (float[N, 3] f) { f = Reshape(a, s) }>
        k = Constant <value = float[3] {0.5, 1, 2}> ()
        y = local.F(b, k)
    }
    <domain: "local", opset_import: ["" : 17]> F (p, q) => (r) { r = Mul(p, q) }
    """
    return onnx.parser.parse_model(text).SerializeToString()
