"""Models of a few hundred bytes that ask for more memory or time than anybody has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx import helper as h

import graphopt
from graphopt import ir
from graphopt.analysis.coupling import axes
from graphopt.cli.main import main
from graphopt.errors import GraphOptError
from graphopt.passes.simplify.fold_constants import FoldConstants
from graphopt.runtime import RunStoppedError, open_session
from graphopt.testing import context
from tests.bad_input.mistakes import write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.bad_input.mistakes import Bench

SIDE = 1 << 24
"""A square of this side has 2^48 elements: 256 TiB of bytes."""
ONE = np.ones((1, 1), np.float32)


def _long(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


Bomb = tuple[list[str], dict[str, np.ndarray]]
BOMBS: Mapping[str, Bomb] = {
    "ConstantOfShape": (["s"], {"s": _long(SIDE, SIDE)}),
    "Expand": (["o", "s"], {"o": ONE, "s": _long(SIDE, SIDE)}),
    "Tile": (["o", "s"], {"o": ONE, "s": _long(SIDE, SIDE)}),
    "Pad": (["o", "s"], {"o": ONE, "s": _long(0, 0, SIDE, SIDE)}),
    "Range": (["a", "b", "c"], {"a": _long(0)[0], "b": _long(SIDE**2)[0], "c": _long(1)[0]}),
    "Resize": (
        ["o", "", "", "s"],
        {"o": ONE.reshape(1, 1, 1, 1), "s": _long(1, 1, SIDE, SIDE)},
    ),
    "OneHot": (
        ["o", "d", "v"],
        {"o": _long(1, 2), "d": _long(SIDE**2)[0], "v": np.array([0, 1], np.float32)},
    ),
}


def _model(op: str, inputs: list[str], constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    nodes = [
        h.make_node(op, inputs, ["big"], name="bomb"),
        h.make_node("Cast", ["big"], ["float"], to=TensorProto.FLOAT),
        h.make_node("ReduceMean", ["float"], ["mean"], keepdims=0),
        h.make_node("Add", ["x", "mean"], ["y"]),
    ]
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [h.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("op", BOMBS)
def test_what_no_machine_can_hold_is_refused_and_never_made(bench: Bench, op: str) -> None:
    path = write(_model(op, *BOMBS[op]))
    shown = bench.compile_refused(path, "G209")
    assert f"{op} makes a tensor of" in shown.message
    assert "node `bomb`" in shown.where


@pytest.mark.parametrize("op", BOMBS)
@pytest.mark.parametrize("command", ["inspect", "estimate"])
def test_it_can_be_looked_at(op: str, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(_model(op, *BOMBS[op]))
    assert main([command, str(path)]) == 0, capfd.readouterr().err


@pytest.mark.parametrize("op", BOMBS)
def test_folding_leaves_it_computed(op: str) -> None:
    graph = ir.from_bytes(_model(op, *BOMBS[op]).SerializeToString())
    asked = context()
    FoldConstants().run(graph, asked)
    assert next(n.op for n in graph.nodes()) == op
    assert "bomb" in asked.reasons


def test_sizes_that_overflow_and_sizes_below_zero(bench: Bench) -> None:
    huge = _model("ConstantOfShape", ["s"], {"s": _long(1 << 40, 1 << 40)})
    assert bench.compile_refused(write(huge), "G209").where.endswith("node `bomb`")
    below = _model("ConstantOfShape", ["s"], {"s": _long(-5, 4)})
    assert bench.compile_refused(write(below), "G215").where == "m.onnx"


def test_what_is_large_in_a_branch_that_is_not_taken_runs() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x, bool c) => (float[2] y) <int64[2] s = {16777216, 16777216}> {
      y = If (c) <
        then_branch = t () => (float[2] p) { b = ConstantOfShape (s)
                                             m = ReduceMean <keepdims = 0> (b)  p = Add (x, m) },
        else_branch = e () => (float[2] q) { q = Neg (x) }> }"""
    session = open_session(ir.parse(text))
    found = session.run({"x": np.ones(2, np.float32), "c": np.array(False)})
    assert found[0].tolist() == [-1, -1]


def _chain(length: int) -> ir.Graph:
    """Return a chain that doubles a constant again and again."""
    graph = ir.Graph("g")
    graph.opsets, graph.ir_version = {"": 17}, 8
    x = graph.new_value("x")
    x.dtype, x.shape = graph.add_constant("one", np.ones(1, np.float32)).dtype, (1,)
    graph.add_input(x)
    value = graph.value("one")
    for index in range(length):
        value = graph.add_node(
            "Concat", [value, value], [f"c{index}"], {"axis": 0}, name=f"n{index}"
        ).outputs[0]
    mean = graph.add_node("ReduceMean", [value], ["mean"], {"keepdims": 0}).outputs[0]
    graph.set_outputs(graph.add_node("Add", [x, mean], ["y"]).outputs)
    return graph


def test_doubling_stops_where_it_gets_dear() -> None:
    graph, asked = _chain(40), context()
    FoldConstants().run(graph, asked)
    # 2^18 floats are a megabyte; the first step after that would add more than one.
    assert len(graph.nodes("Concat")) == 40 - 19
    assert ir.tensor_bytes(graph) <= 2 << 20


def test_strings_are_not_folded_for_nothing() -> None:
    text = """<ir_version: 9, opset_import: ["" : 20]>
    g (string[N] x) => (string[M] y) <int64[1] s = {1000000000}> {
      one = Constant <value_strings = ["a"]> ()
      many = Tile (one, s)
      y = Concat <axis = 0> (x, many) }"""
    graph = ir.parse(text)
    FoldConstants().run(graph, context())
    assert [n.op for n in graph.nodes("Tile")] == ["Tile"]


def test_loops_are_never_run_to_fold_them() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (float[2] y) <int64 trips = {4611686018427387904}, bool go = {1},
                                    float[1] start = {0.0}> {
      w = Loop (trips, go, start) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] u) {
        d = Identity (c)  u = Add (v, v) }>
      y = Add (x, w) }"""
    graph = ir.parse(text)
    FoldConstants().run(graph, context())
    assert [n.op for n in graph.nodes("Loop")] == ["Loop"]


def test_axes_that_are_too_long_for_units_are_left_as_they_are() -> None:
    graph = ir.parse("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x) => (float[1099511627776, 4] y) { y = Expand (x, x) }""")
    output = graph.value("y")
    table = axes.AtomTable([output])
    assert axes.Axis(output, 0) not in table
    assert table.count == 4


@pytest.mark.parametrize("depth", [28, 31])
def test_branches_in_branches(bench: Bench, depth: int) -> None:
    inner = h.make_graph([h.make_node("Neg", ["x"], ["o0"])], "g0", [], [_info("o0")])
    for level in range(1, depth):
        name = f"o{level}"
        node = h.make_node("If", ["c"], [name], then_branch=inner, else_branch=_plain(level))
        inner = h.make_graph([node], f"g{level}", [], [_info(name)])
    top = h.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=_plain(0))
    made = h.make_model(
        h.make_graph([top], "m", [_info("x"), _info("c", TensorProto.BOOL, [])], [_info("y")]),
        opset_imports=[h.make_opsetid("", 17)],
        ir_version=8,
    )
    path = write(made)
    if depth > 30:
        assert bench.compile_refused(path, "G209")
        return
    written = bench.compiles(path, "--recipe", "lossless", "--no-measure")
    assert onnx.load(written).graph.node[0].op_type == "If"


def _info(name: str, kind: int = TensorProto.FLOAT, shape: object = None) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, kind, shape if shape is not None else ["N", 4])


def _plain(level: int) -> onnx.GraphProto:
    name = f"p{level}"
    return h.make_graph([h.make_node("Abs", ["x"], [name])], f"e{level}", [], [_info(name)])


def test_a_model_in_memory_is_refused_alike() -> None:
    with pytest.raises(GraphOptError, match="this machine has") as raised:
        graphopt.compile(_model("Tile", *BOMBS["Tile"]).SerializeToString())
    assert raised.value.code == "G209"


def _endless(rounds: int, inner: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """Return y = x after so many rounds, of which each computes something."""
    body = h.make_graph(
        [*inner, h.make_node("Identity", ["going"], ["on"])],
        "body",
        [
            h.make_tensor_value_info("i", TensorProto.INT64, []),
            h.make_tensor_value_info("going", TensorProto.BOOL, []),
            h.make_tensor_value_info("s", TensorProto.FLOAT, None),
        ],
        [
            h.make_tensor_value_info("on", TensorProto.BOOL, []),
            h.make_tensor_value_info("t", TensorProto.FLOAT, None),
        ],
    )
    graph = h.make_graph(
        [
            h.make_node("Abs", ["x"], ["a"]),
            h.make_node("Identity", ["a"], ["b"]),
            h.make_node("Loop", ["rounds", "", "b"], ["y"], body=body),
        ],
        "g",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [h.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.array(rounds), "rounds")],
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


STEP = h.make_node("Neg", ["s"], ["t"])


def test_an_endless_loop_is_stopped_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphopt.runtime.session.MOST_SECONDS", 0.3)
    path = tmp_path / "model.onnx"
    onnx.save(_endless(1 << 62, [STEP]), path)
    compiled = graphopt.compile(path, recipe="lossless")
    told = {notice.code: notice.message for notice in compiled.report.notices}
    assert "was stopped: it had not ended after 0.3 s" in told["W303"]
    assert [n.op for n in compiled.graph.nodes()] == ["Abs", "Loop"]


def test_a_run_that_takes_all_memory_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.runtime.bounded._MOST_MEMORY", 0.005)
    graph = ir.from_bytes(
        _endless(
            1 << 62,
            [h.make_node("Concat", ["s", "s", "x"], ["t"], axis=0)],
        ).SerializeToString()
    )
    session = open_session(graph)
    with pytest.raises(RunStoppedError, match="of this machine's memory"):
        session.run({"x": np.ones((4096, 4), np.float32)})


def test_a_loop_that_ends_is_run_to_its_end() -> None:
    session = open_session(ir.from_bytes(_endless(3, [STEP]).SerializeToString()))
    assert session.seconds is not None
    (found,) = session.run({"x": np.full((1, 4), 2.0, np.float32)})
    np.testing.assert_array_equal(found, np.full((1, 4), -2.0, np.float32))


@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_a_bomb_in_a_branch_that_is_not_taken_does_not_go_off(tmp_path: Path, op: str) -> None:
    inputs, constants = BOMBS[op]
    then = h.make_graph(
        [
            h.make_node(op, inputs, ["big"], name="bomb"),
            h.make_node("Cast", ["big"], ["float"], to=TensorProto.FLOAT),
            h.make_node("ReduceMean", ["float"], ["r"], keepdims=0),
        ],
        "then",
        [],
        [h.make_tensor_value_info("r", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    other = h.make_graph(
        [h.make_node("ReduceMax", ["x"], ["s"], keepdims=0)],
        "other",
        [],
        [h.make_tensor_value_info("s", TensorProto.FLOAT, None)],
    )
    graph = h.make_graph(
        [
            h.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            h.make_node("IsInf", ["sum"], ["odd"]),
            h.make_node("If", ["odd"], ["m"], then_branch=then, else_branch=other),
            h.make_node("Identity", ["x"], ["same"]),
            h.make_node("Add", ["same", "m"], ["y"]),
        ],
        "g",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [h.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    report = graphopt.compile(path, recipe="lossless").report
    changed = {record.name: record.max_error for record in report.passes if record.max_error}
    assert all(error <= 1e-6 for error in changed.values())
    assert "W303" not in {notice.code for notice in report.notices}
