"""What is read of constants to find equal ones; tests/golden has what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphopt import ir
from graphopt.passes.simplify.merge_equal_constants import MergeEqualConstants
from graphopt.testing import context, graph, run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TEXT = """m (float[N, 2] x) => (float[N, 2] y)
<float[2] a = {1.0, 2.0}, float[2] b = {1.0, 2.0}, float[2, 1] c = {1.0, 2.0},
 float[1, 1] d = {3.0}> {
  p = Add (x, a)
  q = Mul (p, b)
  r = MatMul (q, c)
  y = Add (r, d)
}"""  # fmt: skip


def test_only_constants_of_one_type_and_shape_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = graph(TEXT.replace("float[N, 2] y", "float[N, 1] y")), []
    digest = ir.Tensor.digest

    def recorded(tensor: ir.Tensor) -> str:
        read.append(tensor.shape)
        return digest(tensor)

    monkeypatch.setattr(ir.Tensor, "digest", recorded)
    assert MergeEqualConstants().run(model, context()).metrics == {"constants": 1, "bytes": 8}
    assert read == [(2,), (2,)]


def test_constants_outside_the_file_are_merged(tmp_path: Path) -> None:
    model = graph("m (float[N, 64] x) => (float[N, 64] y) { y = Relu (x) }")
    weights = np.arange(4096, dtype=np.float32).reshape(64, 64)
    stored = [model.add_constant(name, weights) for name in "ab"]
    (relu,) = model.nodes()
    first = model.add_node("MatMul", [relu.inputs[0], stored[0]]).outputs[0]
    relu.set_input(0, model.add_node("MatMul", [first, stored[1]]).outputs[0])
    model.sort()
    ir.save(model, tmp_path / "m.onnx")
    again = ir.load(tmp_path / "m.onnx")
    feed = {"x": np.ones((1, 64), np.float32)}
    wanted = run(again, feed)
    assert MergeEqualConstants(min_bytes=1024).run(again, context()).modified
    assert len(again.initializers) == 1
    np.testing.assert_array_equal(run(again, feed)[0], wanted[0])
