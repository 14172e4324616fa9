"""Legal models and data that few people have: each once made a pass fail, and be rolled back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from onnx import helper as h

import graphopt
from graphopt.passes.recover.layers.inputs import LayerInputs
from graphopt.recipe import parse_recipe

if TYPE_CHECKING:
    import onnx

RANDOM = np.random.default_rng(0)


def _floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def _model(nodes: list[onnx.NodeProto], shape: list[int], **weights: np.ndarray) -> onnx.ModelProto:
    graph = h.make_graph(
        nodes,
        "g",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [h.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)


def _compiled(model: onnx.ModelProto, x: np.ndarray, recipe: str) -> graphopt.Compiled:
    made = graphopt.compile(
        model.SerializeToString(), data={"x": x}, recipe=recipe, target="x86", measure=False
    )
    assert [p.reason for p in made.report.passes if p.status == "rolled back"] == []
    return made


def test_an_optional_bias_that_is_spelled_as_empty() -> None:
    nodes = [h.make_node("Conv", ["x", "w", ""], ["y"])]
    made = _compiled(
        _model(nodes, [1, 3, 8, 8], w=_floats(4, 3, 3, 3)), _floats(16, 1, 3, 8, 8), "integer"
    )
    assert [o.execution for o in made.report.operators] == ["integer"]


def test_a_convolution_over_one_point_stays_with_its_activation() -> None:
    nodes = [
        h.make_node("Conv", ["x", "w", "b"], ["a"], name="first"),
        h.make_node("Sigmoid", ["a"], ["s"]),
        h.make_node("Conv", ["s", "v"], ["y"], name="second"),
    ]
    model = _model(nodes, [1, 16, 1], w=_floats(32, 16, 1), b=_floats(32), v=_floats(16, 32, 1))
    made = _compiled(model, _floats(16, 1, 16, 1), "lossless")
    changed = [p.name for p in made.report.passes if p.status == "changed"]
    assert "convert-conv-to-matmul" in changed
    assert [o.op for o in made.report.operators] == ["Conv", "MatMul"]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_inputs_whose_squares_float32_cannot_hold(scale: float) -> None:
    nodes = [h.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1] * 4)]
    model = _model(nodes, [1, 8, 8, 8], w=_floats(16, 8, 3, 3), b=np.zeros(16, np.float32))
    _compiled(model, _floats(16, 1, 8, 8, 8) * np.float32(scale), "integer")


@pytest.mark.parametrize(("mean", "spread", "features"), [(100.0, 0.0, 512), (100.0, 0.01, 256)])
def test_moments_of_nearly_constant_inputs_are_positive_definite(
    mean: float, spread: float, features: int
) -> None:
    rows = mean * RANDOM.uniform(0.3, 1.0, features) + spread * RANDOM.standard_normal(
        (2 * features, features)
    )
    rows = rows.astype(np.float32)[None]
    second = np.zeros((1, features, features))
    for part in np.array_split(rows, 7, axis=1):
        second += np.matmul(part.transpose(0, 2, 1), part)
    count = rows.shape[1]
    found = LayerInputs(rows.sum(axis=1, dtype=np.float64) / count, second / count, ())
    np.linalg.cholesky(found.moments(True, mean / 255))


def test_hard_swish_between_q_and_dq_is_left_alone() -> None:
    scale, zero = np.array(0.05, np.float32), np.array(128, np.uint8)
    nodes = [
        h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        h.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        h.make_node("HardSwish", ["d"], ["a"], name="swish"),
        h.make_node("QuantizeLinear", ["a", "s", "z"], ["r"]),
        h.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    made = graphopt.compile(
        _model(nodes, [1, 8], s=scale, z=zero).SerializeToString(), recipe="lossless", target="x86"
    )
    assert [n.op for n in made.graph.nodes("HardSwish")] == ["HardSwish"]


def test_the_recipe_of_a_model_that_was_kept_leaves_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from graphopt.api.timing import Timed

    monkeypatch.setattr(Timed, "is_below", lambda *_: True)
    nodes = [h.make_node("Identity", ["x"], ["a"]), h.make_node("Relu", ["a"], ["y"])]
    data = _model(nodes, [1, 8]).SerializeToString()
    made = graphopt.compile(data, recipe="lossless", target="host", measure=True)
    assert [n.code for n in made.report.notices if n.code == "W501"] == ["W501"]
    again = graphopt.compile(data, recipe=parse_recipe(made.report.recipe), measure=False)
    assert again.report.result.digest == made.report.result.digest
