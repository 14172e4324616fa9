"""Sessions, failures in our words, races, and intermediate tensors in chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.errors import ModelError
from graphopt.runtime import (
    IntermediateTensors,
    RaceResult,
    newest_supported_opset,
    open_session,
    race,
    versions,
)
from graphopt.runtime.session import explain_failure, numpy_name
from graphopt.testing import graph, random_feeds

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph

TEXT = """m (float[N, 4] x) => (float[N, 4] y) <float[4, 4] w> {
  a = MatMul (x, w)
  b = Relu (a)
  c = Tanh (b)
  y = Neg (c) }"""


@pytest.fixture
def model() -> Graph:
    return graph(TEXT)


def test_a_graph_bytes_and_a_file_open_alike(model: Graph, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    ir.save(model, path)
    feed = random_feeds(model)[0]
    (wanted,) = open_session(model).run(feed)
    for source in (path, ir.to_bytes(model)):
        session = open_session(source)
        assert session.inputs == (("x", ("N", 4), "float32"),)
        assert session.outputs == ("y",)
        assert np.array_equal(session.run(feed)[0], wanted)


def test_without_optimisation_nothing_is_fused(model: Graph, tmp_path: Path) -> None:
    plain, full = tmp_path / "plain.onnx", tmp_path / "full.onnx"
    fused = graph("m (float[2, 4] x) => (float[2, 4] y) <float[4, 4] w> "
                  "{ a = Gemm (x, w)\n y = Relu (a) }")  # fmt: skip
    open_session(fused, optimize=False, dump=plain)
    open_session(fused, dump=full)
    assert [n.op for n in ir.load(plain).nodes()] == ["Gemm", "Relu"]
    assert [n.op for n in ir.load(full).nodes()] == ["FusedGemm"]


def test_wrong_feeds_are_told_without_a_traceback_of_ours(model: Graph) -> None:
    session = open_session(model)
    for feed in ({}, {"x": np.zeros((1, 5), np.float32)}, {"x": np.zeros((1, 4))}):
        with pytest.raises(ModelError) as raised:
            session.run(feed)
        assert raised.value.code == "G215"
        assert "inspect" in (raised.value.hint or "")


def test_an_operator_without_kernel_is_named() -> None:
    model = ir.parse("""<ir_version: 8, opset_import: ["" : 17, "my.domain" : 1]>
    m (float[2] x) => (float[2] y) { [odd] y = my.domain.Frobnicate (x) }""")
    with pytest.raises(ModelError) as raised:
        open_session(model)
    assert raised.value.code == "G207"
    assert "Frobnicate" in str(raised.value)


@pytest.mark.parametrize("text", ["[ONNXRuntimeError] : 1 : FAIL : anything", ""])
def test_any_other_failure_is_told_without_the_marks_of_onnxruntime(text: str) -> None:
    error = explain_failure(RuntimeError(text))
    assert error.code == "G215"
    assert "[ONNXRuntimeError]" not in error.message


def test_facts_about_the_runtime() -> None:
    assert newest_supported_opset() >= 21
    assert set(versions()) == {"onnxruntime", "onnx", "numpy"}
    assert [numpy_name(k) for k in ("tensor(float)", "tensor(int64)", "seq(tensor(float))")] == [
        "float32", "int64", "",
    ]  # fmt: skip


@pytest.mark.parametrize("chunk_bytes", [1, 64, 1 << 30])
def test_intermediate_tensors_are_the_same_in_any_chunks(model: Graph, chunk_bytes: int) -> None:
    feed = random_feeds(model)[0]
    names = ["x", "a", "b", "c", "y"]
    found = dict(IntermediateTensors(model, names, chunk_bytes=chunk_bytes).tensors(feed))
    assert list(found) == names
    weight = model.value("w").array()
    np.testing.assert_allclose(found["a"], feed["x"] @ weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["c"], np.tanh(np.maximum(found["a"], 0)), atol=1e-6)
    assert np.array_equal(found["y"], -found["c"])


def test_a_race_tells_the_slow_from_the_fast() -> None:
    sizes = {"slow": 400, "fast": 100}
    sessions = {
        name: open_session(
            graph(f"m (float[{n}, {n}] x) => (float[{n}, {n}] y) {{ y = MatMul (x, x) }}")
        )
        for name, n in sizes.items()
    }
    slow = race({"slow": sessions["slow"]}, [{"x": np.ones((400, 400), np.float32)}], seconds=0.01)
    fast = race({"fast": sessions["fast"]}, [{"x": np.ones((100, 100), np.float32)}], seconds=0.01)
    assert slow.timings["slow"].median_ms > 4 * fast.timings["fast"].median_ms
    assert fast.timings["fast"].min_ms <= fast.timings["fast"].median_ms
    assert fast.timings["fast"].rounds >= 7


def test_ratios_of_a_race_are_robust_to_disturbed_rounds() -> None:
    samples = {"a": (2.0, 2.0, 2.0, 2.0, 90.0), "b": (1.0, 1.0, 1.0, 60.0, 1.0)}
    result = RaceResult({}, samples)
    assert result.speedup("b", "a") == 2.0
    assert result.speedup_of_quartiles("b", "a") == 2.0
    assert result.speedup_of_minima("b", "a") == 2.0
