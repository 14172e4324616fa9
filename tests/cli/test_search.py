"""What the command line says of searches: options that go together, and what cannot be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from graphopt.cli.main import cli
from graphopt.cli.settings import Settings
from graphopt.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path


def fault(*words: str) -> RecipeError:
    result = CliRunner().invoke(cli, words, obj=Settings())
    assert isinstance(result.exception, RecipeError), result.output
    return result.exception


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--workers", "2"), "G108", "goes with a budget"),
        (("--effort", "quick"), "G108", "goes with a budget"),
        (("--max-size", "0.5x", "--strict"), "G108", "is of one compile"),
        (("--max-latency", "fast"), "G103", "is not a budget"),
    ],
)
def test_a_compile_tells_what_does_not_go_together(
    models: Path, tmp_path: Path, words: tuple[str, ...], code: str, says: str
) -> None:
    told = (str(models / "digits_resnet.onnx"), "--data", str(models / "digits_test.npz"))
    found = fault("compile", *told, "-o", str(tmp_path / "made.onnx"), *words)
    assert found.code == code
    assert says in found.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--pick", "fastets"), "neither a rule nor a key"),
        (("--max-energy", "2mJ"), "known as a share only"),
    ],
)
def test_a_search_tells_before_any_work_what_it_cannot_do(
    models: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    told = (str(models / "digits_resnet.onnx"), "--data", str(models / "digits_test.npz"))
    output = ("--target", "arm", "-o", str(tmp_path / "made.onnx"))
    assert says in fault("search", *told, *output, *words).message
    assert not (tmp_path / "made.onnx").exists()
