"""What a search keeps on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from graphopt.errors import ModelError
from graphopt.planner.joint.candidates import Candidate, Figures, Made
from graphopt.planner.joint.store import Store
from graphopt.report import ScoreRecord

if TYPE_CHECKING:
    from pathlib import Path

MADE = Made(
    Candidate("int8", ("insert-qdq.placement=integer",), measured=True),
    "k",
    Figures(1.5, 1000, 2000, 0.5),
    ScoreRecord("top1", "points", 90.0, 89.0, 91.0, 500, 0.4, -0.1, 0.9),
    digest="ab" * 32,
    report="{}",
    seconds=2.0,
)


def test_what_was_made_is_found_again_with_its_model(tmp_path: Path) -> None:
    (tmp_path / "made.onnx").write_bytes(b"model")
    with Store(tmp_path / "s") as store:
        store.add(MADE, tmp_path / "made.onnx")
    with Store(tmp_path / "s") as store:
        found = store.find("k")
        assert found is not None
        assert store.path(found.digest).read_bytes() == b"model"
    assert found.reused
    assert (found.candidate, found.figures, found.score) == (
        MADE.candidate,
        MADE.figures,
        MADE.score,
    )


def test_a_result_without_its_model_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "made.onnx").write_bytes(b"model")
    with Store(tmp_path) as store:
        store.add(MADE, tmp_path / "made.onnx")
        store.path(MADE.digest).unlink()
        assert store.find("k") is None


def test_a_failure_is_kept_too(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add(Made(MADE.candidate, "f", fault="G308: nothing can go"), None)
        found = store.find("f")
    assert found is not None
    assert found.fault == "G308: nothing can go"


def test_timings_are_kept(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        assert store.timed("t") is None
        store.add_timed("t", {"a": 1.25})
        assert store.timed("t") == {"a": 1.25}


@pytest.mark.parametrize("content", [b"not a database", b""])
def test_a_file_that_is_no_store_is_told(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "models").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Store(folder)
    assert caught.value.code == "G208"
