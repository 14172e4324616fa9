"""A graph as a program: what can be asked of it, replaced, tapped; what is kept and what is not."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from graphopt_torch.execution import Program, dequantized_name, to_torch, unsupported

from graphopt import ir
from graphopt.errors import DataError, ModelError
from graphopt.runtime import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph

NET = """
    <ir_version: 10, opset_import: ["" : 17]>
    net (float[N, 3] x) => (float[N, 2] y)
    <float[3, 4] w = {1, 2, 3, 4, -1, 2, -3, 4, 0.5, 0.25, -0.5, 1}, float[4] b = {1, 0, -1, 0.5},
     float[4, 2] v = {1, -1, 2, 0, 0.5, 1, -2, 3}>
    {
      h = MatMul (x, w)
      s = Add (h, b)
      r = Relu (s)
      y = MatMul (r, v)
    }
"""


def _x(rows: int = 5) -> torch.Tensor:
    return torch.linspace(-2, 2, 3 * rows).reshape(rows, 3)


def test_the_graph_is_not_changed(models: Path) -> None:
    for graph in (ir.parse(NET), ir.load(models / "waveform_transformer.onnx")):
        before = ir.to_bytes(graph)
        Program.of(graph)
        assert ir.to_bytes(graph) == before


def test_constants_keep_their_bits(models: Path) -> None:
    graph = ir.load(models / "digits_resnet.onnx")
    program = Program.of(graph)
    assert graph.initializers
    for value in graph.initializers:
        assert program.constants[value.name].numpy().tobytes() == value.array().tobytes()


def test_four_bit_constants_are_unpacked() -> None:
    graph = ir.parse(NET)
    codes = np.array([[-8, 7, 3], [1, -1, 0]], np.int8)
    graph.add_constant("codes", ir.Tensor.packed(ir_type("INT4"), (2, 3), _packed(codes)))
    held = Program.of(graph).constants["codes"]
    assert held.dtype is torch.int8
    np.testing.assert_array_equal(held.numpy(), codes)


def ir_type(name: str) -> int:
    from graphopt.types import DType

    return DType[name]


def _packed(codes: np.ndarray) -> bytes:
    flat = np.append(codes.reshape(-1) & 15, np.zeros(codes.size % 2, np.int8)).astype(np.uint8)
    return (flat[::2] | flat[1::2] << 4).tobytes()


def test_inner_tensors_can_be_asked_for() -> None:
    program = Program.of(ir.parse(NET))
    assert (program.inputs, program.outputs) == (("x",), ("y",))
    found = program.run({"x": _x()}, ["s", "y", "w"])
    assert list(found) == ["s", "y", "w"]
    torch.testing.assert_close(found["y"], found["s"].relu() @ program.constants["v"])


def test_values_take_the_place_of_constants_with_gradients() -> None:
    program = Program.of(ir.parse(NET))
    plain = program.run({"x": _x()})["y"]
    weight = (program.constants["w"] * 2).requires_grad_()
    made = program.run({"x": _x()}, values={"w": weight})["y"]
    assert not torch.allclose(made, plain)
    made.sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    torch.testing.assert_close(program.run({"x": _x()})["y"], plain)


def test_computed_tensors_can_be_given_as_well() -> None:
    program = Program.of(ir.parse(NET))
    hidden = torch.ones(2, 4)
    found = program.run({}, ["y"], values={"r": hidden})["y"]
    torch.testing.assert_close(found, hidden @ program.constants["v"])


def test_taps_change_what_every_reader_gets() -> None:
    program = Program.of(ir.parse(NET))
    seen: list[torch.Tensor] = []

    def tap(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(tensor)
        return torch.zeros_like(tensor)

    for name in ("s", "x", "w"):
        found = program.run({"x": _x()}, ["y", name], taps={name: tap})
        assert not found[name].any()
    torch.testing.assert_close(seen[1], _x())
    assert len(seen) == 3


def test_only_what_is_needed_is_run() -> None:
    program = Program.of(ir.parse(NET))
    calls: list[str] = []

    def called(name: str) -> object:
        return lambda tensor: calls.append(name) or tensor

    program.run({"x": _x()}, ["s"], taps={n: called(n) for n in ("h", "r")})
    assert calls == ["h"]


def test_tensors_go_after_their_last_use() -> None:
    program = Program.of(ir.parse(NET))
    alive: list[weakref.ref[torch.Tensor]] = []
    left: list[bool] = []

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(weakref.ref(tensor))
        return tensor

    def look(tensor: torch.Tensor) -> torch.Tensor:
        gc.collect()
        left.append(alive[0]() is not None)
        return tensor

    program.run({"x": _x()}, taps={"h": remember, "r": look})
    assert left == [False]


def test_an_input_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match="x") as caught:
        Program.of(ir.parse(NET)).run({})
    assert caught.value.code == "G212"


def test_a_tensor_that_is_not_there_is_named() -> None:
    program = Program.of(ir.parse(NET))
    with pytest.raises(ModelError, match="`nothing`"):
        program.run({"x": _x()}, ["nothing"])
    with pytest.raises(ModelError, match="`nothing`"):
        program.run({"x": _x()}, values={"nothing": _x()})


# -- what torch cannot execute ---------------------------------------------------------------

ODD = """
    <ir_version: 10, opset_import: ["" : 17, "my.own" : 1]>
    odd (float[N, 3] x) => (float[N, 3] z)
    {
      m = RandomNormalLike (x)
      y = my.own.Twist (m)
      z = Relu (y)
    }
"""


def test_what_cannot_be_executed_is_named_before_anything_runs() -> None:
    graph = ir.parse(ODD)
    assert [n.op for n in unsupported(graph)] == ["RandomNormalLike", "Twist"]
    with pytest.raises(ModelError, match=r"RandomNormalLike, my\.own\.Twist") as caught:
        Program.of(graph)
    assert caught.value.code == "G207"
    assert "`m`" in caught.value.message


def test_a_supported_operator_in_an_unsupported_form_is_named() -> None:
    graph = ir.parse(
        """
        <ir_version: 10, opset_import: ["" : 17]>
        drop (float[N, 3] x, float ratio, bool t) => (float[N, 3] y) { y = Dropout (x, ratio, t) }
        """
    )
    with pytest.raises(ModelError, match="at random"):
        Program.of(graph)


# -- what is computed once -------------------------------------------------------------------

SHAPES = """
    <ir_version: 10, opset_import: ["" : 17]>
    shapes (float[N, M] x) => (float[K, 2] y)
    <int64[1] last = {-1}, int64 first = {0}, int64[1] zero = {0}, int64[1] two = {2},
     float[2] w = {3, 4}>
    {
      s = Shape (x)
      n = Gather (s, first)
      row = Unsqueeze (n, zero)
      scaled = Mul (row, two)
      goal = Concat <axis = 0> (last, two)
      flat = Reshape (x, goal)
      double = Add (w, w)
      cut = Slice (flat, zero, scaled, zero)
      y = Mul (cut, double)
    }
"""


def test_shapes_are_followed_from_run_to_run() -> None:
    graph = ir.parse(SHAPES)
    program, session = Program.of(graph), open_session(graph, optimize=False)
    for shape in ((3, 4), (1, 2), (5, 8), (3, 4), (1, 2)):
        x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
        (wanted,) = session.run({"x": x})
        np.testing.assert_array_equal(program.run({"x": to_torch(x)})["y"].numpy(), wanted)


def test_constants_are_folded_once_unless_they_are_replaced() -> None:
    program = Program.of(ir.parse(SHAPES))
    x = torch.ones(2, 2)
    first = program.run({"x": x}, ["double"])["double"]
    assert program.run({"x": x}, ["double"])["double"] is first
    given = torch.tensor([1.0, 1.0], requires_grad=True)
    made = program.run({"x": x}, ["y"], values={"w": given})["y"]
    made.sum().backward()
    torch.testing.assert_close(given.grad, torch.tensor([4.0, 4.0]))


def test_a_shape_that_values_decide_is_not_kept() -> None:
    graph = ir.parse(
        """
        <ir_version: 10, opset_import: ["" : 17]>
        some (float[N] x, int64[1] n) => (int64[1] y) <int64[1] zero = {0}>
        {
          cut = Slice (x, zero, n, zero)
          y = Shape (cut)
        }
        """
    )
    program = Program.of(graph)
    for count in (3, 1, 2):
        found = program.run({"x": torch.ones(4), "n": torch.tensor([count])})["y"]
        assert found.tolist() == [count]


# -- bodies and functions --------------------------------------------------------------------

BRANCH = """
    <ir_version: 10, opset_import: ["" : 17]>
    branch (float[N] x, bool c) => (float[N] y) <float[1] w = {3}>
    {
      h = Neg (x)
      y = If (c) <
        then_branch = yes () => (float[N] a) { a = Mul (h, w) },
        else_branch = no () => (float[N] b) { b = Abs (h) }
      >
    }
"""


def test_branches_are_taken_with_gradients_to_what_they_capture() -> None:
    program = Program.of(ir.parse(BRANCH))
    x = torch.tensor([1.0, -2.0])
    weight = torch.tensor([2.0], requires_grad=True)
    feeds = {"x": x, "c": torch.tensor(True)}
    made = program.run(feeds, values={"w": weight})["y"]
    torch.testing.assert_close(made, -2 * x)
    made.sum().backward()
    torch.testing.assert_close(weight.grad, -x.sum().reshape(1))
    feeds["c"] = torch.tensor(False)
    torch.testing.assert_close(program.run(feeds)["y"], x.abs())


def test_local_functions_are_inlined() -> None:
    graph = ir.parse(
        """
        <ir_version: 10, opset_import: ["" : 17, "mine" : 1]>
        net (float[N] x) => (float[N] y) { y = mine.twice (x) }
        <domain: "mine", opset_import: ["" : 17]> twice (a) => (b) { b = Add (a, a) }
        """
    )
    program = Program.of(graph)
    torch.testing.assert_close(program.run({"x": torch.ones(2)})["y"], 2 * torch.ones(2))
    assert len(graph.functions) == 1


# -- matrices of few bits --------------------------------------------------------------------


def _packed_product() -> tuple[Graph, np.ndarray]:
    """Return x w' for a 4-bit matrix [2, 32] of one block a row, and the codes."""
    codes = np.random.default_rng(0).integers(0, 16, (2, 32)).astype(np.uint8)
    graph = ir.parse(
        """
        <ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        product (float[N, 32] x) => (float[N, 2] y) <float[2, 1] s = {0.5, 0.25}>
        {
          y = com.microsoft.MatMulNBits <K = 32, N = 2, bits = 4, block_size = 32> (x, b, s)
        }
        """.replace("(x, b, s)", "(x, x, s)")
    )
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).reshape(2, 1, 16)
    graph.nodes("MatMulNBits")[0].set_input(1, graph.add_constant("b", packed))
    return graph, codes


def test_the_dequantized_matrix_can_be_given() -> None:
    graph, codes = _packed_product()
    program = Program.of(graph)
    x = np.random.default_rng(1).standard_normal((3, 32)).astype(np.float32)
    (wanted,) = open_session(graph, optimize=False).run({"x": x})
    feeds = {"x": to_torch(x)}
    np.testing.assert_allclose(program.run(feeds)["y"].numpy(), wanted, rtol=1e-4, atol=1e-4)
    name = dequantized_name("b")
    scales = np.array([[0.5], [0.25]], np.float32)
    matrix = program.run(feeds, [name])[name]
    np.testing.assert_array_equal(matrix.numpy(), (codes.astype(np.float32) - 8) * scales)
    given = torch.zeros(2, 32, requires_grad=True)
    program.run(feeds, values={name: given})["y"].sum().backward()
    torch.testing.assert_close(given.grad, feeds["x"].sum(0).expand(2, -1))
