"""Files that are no models, models that are illegal, and models that nothing can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx import helper as h

import graphopt
from graphopt import ir
from graphopt.errors import GraphOptError
from tests.bad_input.mistakes import model, run, samples, write

if TYPE_CHECKING:
    from tests.bad_input.mistakes import Bench

SHIPPED = Path(__file__).parents[2] / "models" / "digits_resnet.onnx"
X = np.array([[-1, 0, 1, 2], [3, -4, 5, -6]], np.float32)


# -- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.999])
def test_truncated(bench: Bench, part: float) -> None:
    whole = SHIPPED.read_bytes()
    path = write(whole[: int(len(whole) * part)])
    shown = bench.compile_refused(path, "G202")
    assert shown.where == "m.onnx"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"this is no model, and says so at length\n" * 3,
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0",
        b"PK\x03\x04" + b"\0" * 40,
        bytes(range(256)) * 4,
    ],
    ids=["empty", "text", "png", "zip", "bytes"],
)
def test_not_a_protobuf(bench: Bench, data: bytes) -> None:
    assert bench.compile_refused(write(data), "G202").where == "m.onnx"


def test_a_folder_and_nothing_at_all(bench: Bench) -> None:
    Path("folder.onnx").mkdir()
    assert "directory" in bench.compile_refused(Path("folder.onnx"), "G201").message
    assert "No such file" in bench.compile_refused(Path("nope.onnx"), "G201").message


@pytest.mark.parametrize("command", ["inspect", "estimate", "bench", "diff"])
def test_every_command_that_reads_a_model_says_so(bench: Bench, command: str) -> None:
    path = write(b"no model")
    again = [path] if command == "diff" else []
    shown = bench.refused(command, path, *again)
    assert (shown.code, shown.where) == ("G202", "m.onnx")
    assert shown.hint


def test_bytes_that_are_no_model() -> None:
    with pytest.raises(GraphOptError) as raised:
        graphopt.compile(b"no model")
    assert (raised.value.code, raised.value.where) == ("G202", "model")


# -- versions ------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [27, 28, 99, 2**31])
def test_an_opset_newer_than_the_runtime(bench: Bench, opset: int) -> None:
    shown = bench.compile_refused(write(model(opset=opset)), "G206")
    assert f"opset {opset}" in shown.message
    assert shown.where == "m.onnx"


def test_a_file_format_newer_than_the_runtime(bench: Bench) -> None:
    shown = bench.compile_refused(write(model(ir_version=99)), "G206")
    assert "IR version 99" in shown.message
    assert "13" in shown.message
    assert shown.where == "m.onnx"


def test_no_opset_at_all(bench: Bench) -> None:
    made = model()
    del made.opset_import[:]
    assert "imports no operator set" in bench.compile_refused(write(made), "G205").message


def _old(opset: int) -> onnx.ModelProto:
    """Return a model whose operators changed since: Squeeze, Softmax, Dropout, Clip, Pad, Slice."""
    node = h.make_node
    squeeze = node("Squeeze", ["x"], ["a"], axes=[0])
    softmax = node("Softmax", ["a"], ["b"], axis=1)
    fixed = {"ratio": 0.5} if opset < 12 else {}
    nodes = [squeeze, softmax, node("Dropout", ["b"], ["c"], **fixed)]
    nodes.append(node("Gemm", ["c", "w", "v"], ["y"]))
    if opset < 11:
        nodes[2:2] = [node("Clip", ["b"], ["d"], min=0.0, max=0.5)]
        nodes[3].input[0] = "d"
    made = model(*nodes, opset=opset, ir_version=3 if opset < 9 else 6)
    x = made.graph.input[0]
    x.CopyFrom(h.make_tensor_value_info("x", 1, [1, "N", 4]))
    weights = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)
    for name, array in (("w", weights), ("v", weights[0])):
        made.graph.initializer.append(numpy_helper.from_array(array, name))
        # Before IR version 4 every initializer is an input as well.
        made.graph.input.append(h.make_tensor_value_info(name, 1, array.shape))
    return made


@pytest.mark.parametrize("target", ["host", "arm"])
@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12])
def test_opsets_7_to_12_are_upgraded_and_run(bench: Bench, opset: int, target: str) -> None:
    path = write(_old(opset))
    # Not timed: of two models of a microsecond the machine may call either the slower one.
    written = bench.compiles(path, "--target", target, "--no-measure")
    made = onnx.load(written)
    assert {o.domain: o.version for o in made.opset_import}[""] >= 13
    feeds = {"x": X[None]}
    # Softmax of opset 13 is another kernel of the same function; no data, so nothing is integer.
    np.testing.assert_allclose(run(written, feeds)[0], run(path, feeds)[0], rtol=1e-5, atol=1e-6)


def test_old_opsets_with_data_run_too(bench: Bench) -> None:
    path = write(model(h.make_node("Relu", ["x"], ["y"]), opset=7, ir_version=3))
    written = bench.compiles(path, "--data", samples())
    np.testing.assert_array_equal(run(written, {"x": X})[0], np.maximum(X, 0))


# -- external data -------------------------------------------------------------------------


def _external(location: str, **entries: int) -> onnx.ModelProto:
    made = model(h.make_node("Add", ["x", "w"], ["y"]))
    tensor = TensorProto(name="w", dims=[4], data_type=1, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    made.graph.initializer.append(tensor)
    return made


def test_missing_external_data(bench: Bench) -> None:
    shown = bench.compile_refused(write(_external("gone.bin")), "G203")
    assert "`gone.bin` of `w`" in shown.message
    assert shown.where == "m.onnx"


def test_external_data_that_is_too_short(bench: Bench) -> None:
    Path("w.bin").write_bytes(b"\0" * 15)
    assert "holds 15" in bench.compile_refused(write(_external("w.bin")), "G203").message


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../w.bin", "sub/../../w.bin", "out/w.bin", "link.bin", "."]
)
def test_external_data_outside_the_folder(bench: Bench, location: str) -> None:
    Path("inside/sub").mkdir(parents=True)
    Path("w.bin").write_bytes(b"\0" * 16)
    Path("inside/out").symlink_to(Path.cwd())
    Path("inside/link.bin").symlink_to(Path.cwd() / "w.bin")
    shown = bench.compile_refused(write(_external(location), "inside/m.onnx"), "G204")
    assert shown.where == "inside/m.onnx"


def test_external_data_of_a_model_in_memory() -> None:
    with pytest.raises(GraphOptError, match="has no folder") as raised:
        graphopt.compile(_external("w.bin").SerializeToString())
    assert raised.value.code == "G203"


def test_the_data_file_of_the_model_is_never_the_output(bench: Bench) -> None:
    Path("w.bin.onnx").write_bytes(b"\0" * 16)
    path = write(_external("w.bin.onnx"))
    shown = bench.refused("compile", path, "-o", "w.bin.onnx")
    assert shown.code == "G208"
    assert shown.where == "w.bin.onnx"


# -- graphs --------------------------------------------------------------------------------


def test_a_cycle(bench: Bench) -> None:
    nodes = [
        h.make_node("Add", ["x", "b"], ["a"], name="one"),
        h.make_node("Neg", ["a"], ["b"], name="two"),
        h.make_node("Relu", ["b"], ["y"], name="three"),
    ]
    shown = bench.compile_refused(write(model(*nodes)), "G205")
    assert "cycle: `one` → `two` → `one`" in shown.message
    assert shown.where == "m.onnx"


@pytest.mark.parametrize("name", ["y", "x"])
def test_a_tensor_defined_twice(bench: Bench, name: str) -> None:
    nodes = [h.make_node("Relu", ["x"], ["y"]), h.make_node("Neg", ["x"], [name])]
    shown = bench.compile_refused(write(model(*nodes)), "G205")
    assert f"`{name}` is defined twice" in shown.message


def test_two_nodes_of_one_name_are_legal(bench: Bench) -> None:
    nodes = [
        h.make_node("Relu", ["x"], ["a"], name="n"),
        h.make_node("Neg", ["a"], ["y"], name="n"),
    ]
    written = bench.compiles(write(model(*nodes)), "--data", samples())
    np.testing.assert_array_equal(run(written, {"x": X})[0], -np.maximum(X, 0))


def test_nodes_are_told_apart_at_every_level() -> None:
    graph = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[3] x, bool c) => (float[3] y) {
        [n] a = Neg(x)  b = Neg(a)  [n] d = Abs(b)  [n_2] e = Abs(d)  [n] f = Abs(e)
        y = If (c) <then_branch = t () => (float[3] p) { [n] q = Neg(f)  [n] p = Abs(q) },
                    else_branch = u () => (float[3] r) { [n] r = Neg(f) }> }""")
    assert ir.separate_node_names(graph) == 3
    assert [n.name for n in graph.nodes()] == ["n", "", "n_3", "n_2", "n_4", ""]
    inner = [[n.name for n in g.nodes()] for g in graph.nodes("If")[0].subgraphs]
    assert inner == [["n", "n_2"], ["n"]]
    assert ir.separate_node_names(graph) == 0


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (h.make_node("Relu", ["nope"], ["y"], name="relu"), "`relu` reads `nope`"),
        (h.make_node("Rely", ["x"], ["y"], name="relu"), "no operator `Rely`"),
        (h.make_node("Relu", ["x", "x"], ["y"], name="relu"), "takes 1 to 1 inputs, not 2"),
        (h.make_node("Concat", ["x", "x"], ["y"], name="joined"), "needs the attribute `axis`"),
        (h.make_node("And", ["x", "x"], ["y"], name="both"), "And does not take float"),
    ],
    ids=["undefined", "operator", "inputs", "attribute", "type"],
)
def test_an_illegal_node(bench: Bench, node: onnx.NodeProto, message: str) -> None:
    shown = bench.compile_refused(write(model(node)), "G205")
    assert message in shown.message
    assert shown.where == "m.onnx"


def test_no_outputs(bench: Bench) -> None:
    made = model()
    del made.graph.output[:]
    assert "no outputs" in bench.compile_refused(write(made), "G205").message


def test_a_tensor_that_claims_more_than_it_holds(bench: Bench) -> None:
    made = model()
    made.graph.initializer.append(
        TensorProto(name="w", dims=[1 << 30, 1 << 30], data_type=1, raw_data=b"1234")
    )
    shown = bench.compile_refused(write(made), "G205")
    assert "holds 4" in shown.message
    assert shown.where == "m.onnx"


@pytest.mark.parametrize("dims", [[1 << 40, 4], [1 << 62, 1 << 62], [-3, 4]], ids=str)
def test_an_input_that_nothing_can_hold(bench: Bench, dims: list[int]) -> None:
    made = model()
    made.graph.input[0].CopyFrom(h.make_tensor_value_info("x", 1, dims))
    made.graph.output[0].CopyFrom(h.make_tensor_value_info("y", 1, None))
    shown = bench.compile_refused(write(made), "G209")
    assert "`x`" in shown.message


def test_graphs_nested_a_hundred_deep(bench: Bench) -> None:
    from tests.unit.ir.test_files import _nested

    shown = bench.compile_refused(write(_nested(100)), "G209")
    assert shown.where == "m.onnx"


# -- operators and types that graphopt knows nothing about ---------------------------------


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("target", ["host", "arm", "mcu"])
def test_a_custom_operator(bench: Bench, target: str, imported: bool) -> None:
    made = model(h.make_node("Magic", ["x"], ["y"], name="spell", domain="com.acme"))
    if imported:
        made.opset_import.add(domain="com.acme", version=1)
    shown = bench.compile_refused(write(made), "G207", target=target)
    assert "Magic`" in shown.message
    assert shown.where.startswith("m.onnx")


def test_a_custom_operator_can_be_looked_at(bench: Bench, capfd: pytest.CaptureFixture) -> None:
    from graphopt.cli.main import main

    path = write(model(h.make_node("Magic", ["x"], ["y"], domain="com.acme")))
    assert main(["inspect", str(path)]) == 0
    assert "Magic" in capfd.readouterr().out
    assert bench is not None


def test_dimensions_of_size_zero(bench: Bench) -> None:
    made = model()
    for info in (made.graph.input[0], made.graph.output[0]):
        info.type.tensor_type.shape.dim[0].dim_value = 0
    path = write(made)
    written = bench.compiles(path)
    assert run(written, {"x": X[:0]})[0].shape == (0, 4)
    data = samples(x=np.zeros((8, 0, 4), np.float32))
    assert bench.compile_refused(path, "G213", data=data).where.startswith("data.npz")


def _labels() -> onnx.ModelProto:
    keys = {"keys_strings": ["a", "b"], "values_floats": [1.0, 2.0], "default_float": 0.0}
    made = model(h.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **keys))
    made.opset_import.add(domain="ai.onnx.ml", version=2)
    made.graph.input[0].CopyFrom(h.make_tensor_value_info("x", TensorProto.STRING, ["N"]))
    made.graph.output[0].CopyFrom(h.make_tensor_value_info("y", 1, ["N"]))
    return made


@pytest.mark.parametrize("with_data", [False, True])
def test_string_inputs_are_passed_through(bench: Bench, with_data: bool) -> None:
    data = ["--data", samples(x=np.array(["a", "b", "c", "a"] * 4))] if with_data else []
    written = bench.compiles(write(_labels()), *data)
    feeds = {"x": np.array(["b", "q"], dtype=object)}
    np.testing.assert_array_equal(run(written, feeds)[0], [2, 0])


def test_numbers_for_a_string_input(bench: Bench) -> None:
    shown = bench.compile_refused(write(_labels()), "G212", data=samples(x=np.arange(8.0)))
    assert "`x`" in shown.message


def _sequence() -> onnx.ModelProto:
    made = model(h.make_node("SequenceLength", ["x"], ["y"]))
    made.graph.input[0].CopyFrom(h.make_tensor_sequence_value_info("x", 1, None))
    made.graph.output[0].CopyFrom(h.make_tensor_value_info("y", TensorProto.INT64, []))
    return made


def _map() -> onnx.ModelProto:
    words = {"string_vocabulary": ["a", "b"]}
    made = model(h.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", **words))
    made.opset_import.add(domain="ai.onnx.ml", version=1)
    kind = h.make_map_type_proto(TensorProto.STRING, h.make_tensor_type_proto(1, []))
    made.graph.input[0].CopyFrom(h.make_value_info("x", kind))
    made.graph.output[0].CopyFrom(h.make_tensor_value_info("y", 1, None))
    return made


@pytest.mark.parametrize("make", [_sequence, _map])
def test_sequences_and_maps_compile_without_data_and_refuse_it(bench: Bench, make: object) -> None:
    path = write(make())
    shown = bench.compile_refused(path, "G212", data=samples())
    assert "`x` is a sequence, a map" in shown.message
    written = bench.compiles(path)
    feed = [X, X] if make is _sequence else {"a": 1.0}
    assert run(written, {"x": feed})[0].tolist() in (2, [[1.0, 0.0]])
