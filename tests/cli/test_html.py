"""`graphopt compile --html`: the page beside the model, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graphopt.page import available

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = Path(__file__).parents[2] / "models"
DATA = MODELS / "digits.npz"


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "digits.onnx"
    path.write_bytes((MODELS / "digits_resnet.onnx").read_bytes())
    return path


def files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_the_page_is_written_beside_the_model(run: Callable) -> None:
    done = run("compile", "digits.onnx", "--target", "arm", "--data", DATA, "--html")
    assert done.code == 0, done.err
    assert "Wrote digits.arm.onnx, digits.arm.json, digits.arm.html" in done.out
    text = Path("digits.arm.html").read_text(encoding="utf-8")
    facts = json.loads(Path("digits.arm.json").read_text(encoding="utf-8"))
    assert facts["sensitivity"]["samples"] == 16
    for layer in facts["layers"]:
        assert layer["node"] in text
    for figure in facts["figures"]:
        assert figure["basis"] in text
    assert facts["source"]["digest"] in text


def test_without_the_extra_nothing_is_done(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "find_spec", lambda _: None)
    done = run("compile", "digits.onnx", "--target", "arm", "--html")
    assert done.code == 2
    assert "error[G110]: a page is made with jinja2 and matplotlib, not installed here" in done.err
    assert 'pip install "graphopt[html]"' in done.err
    assert files() == ["digits.onnx"]


def test_a_model_is_not_named_as_its_page(run: Callable) -> None:
    done = run("compile", "digits.onnx", "--html", "-o", "digits.html")
    assert done.code == 2
    assert "G208" in done.err
    assert files() == ["digits.onnx"]


def test_a_page_is_never_the_only_thing_written(run: Callable) -> None:
    Path("digits.arm.html").mkdir()
    done = run("compile", "digits.onnx", "--target", "arm", "--html", "--no-measure")
    assert done.code == 2
    assert "G208" in done.err
    assert files() == ["digits.arm.html", "digits.onnx"]
