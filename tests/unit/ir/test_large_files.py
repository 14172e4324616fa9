"""Sizes and hashes of models whose weights lie in files: the same as without files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt import ir
from graphopt.ir import hashing, lifted
from graphopt.ir.files import stored_tensors
from graphopt.testing import graph

if TYPE_CHECKING:
    from pathlib import Path

WIDE = """m (float[N, 40] x) => (float[N, 40] y) <float[40, 40] w, float[40] b, float[40, 40] v>
    { p = MatMul(x, w) q = Add(p, b) y = MatMul(q, v) }"""


@pytest.fixture
def from_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ir.Graph:
    """Return a model whose weights lie in a temporary file."""
    monkeypatch.setattr(lifted, "LEAST_FILE", 0)
    ir.save(graph(WIDE), tmp_path / "model.onnx")
    made = ir.load(tmp_path / "model.onnx")
    assert sum(t.external is not None for t in stored_tensors(made)) == 2
    return made


def test_the_size_is_that_of_the_bytes(from_file: ir.Graph) -> None:
    assert ir.serialized_size(from_file) == len(ir.to_bytes(from_file))
    assert ir.serialized_size(graph(WIDE)) == len(ir.to_bytes(graph(WIDE)))


@pytest.mark.parametrize("size", [4096, 16383, 16384, 1 << 20, (1 << 21) + 1])
def test_sizes_are_right_where_a_length_takes_another_byte(
    from_file: ir.Graph, size: int, tmp_path: Path
) -> None:
    value = from_file.add_constant("more", np.zeros(size, np.uint8))
    from_file.set_outputs([*from_file.outputs, value])
    ir.save(from_file, tmp_path / "more.onnx")
    again = ir.load(tmp_path / "more.onnx")
    assert ir.serialized_size(again) == len(ir.to_bytes(again))


def test_hashing_ahead_and_on_several_cores_changes_no_hash(
    from_file: ir.Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_MANY_BYTES", 0)
    ir.hash_ahead(from_file)
    found = ir.structural_hash(from_file)
    monkeypatch.setattr(hashing, "_MOST_THREADS", 1)
    assert found == ir.structural_hash(graph(WIDE))


def test_a_model_is_read_without_its_values(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    ir.save(graph(WIDE), path, external=True)
    path.with_name("model.onnx.data").unlink()
    made = ir.load(path, values=False)
    assert [n.op for n in made.nodes()] == ["MatMul", "Add", "MatMul"]
    assert made.value("w").shape == (40, 40)
