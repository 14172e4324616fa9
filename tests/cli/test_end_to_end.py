"""The whole program on a shipped model: every command, through the front door, on real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS = Path(__file__).parents[2] / "models"
MODEL = MODELS / "digits_resnet.onnx"
DATA = MODELS / "digits.npz"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    path.write_bytes(MODEL.read_bytes())
    return path


def _files() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_compile_inspect_diff_bench_and_explain(run: Callable, model: Path) -> None:
    before = model.read_bytes()
    done = run("compile", "digits.onnx", "--target", "arm", "--data", DATA)
    assert done.code == 0, done.err
    assert done.out.startswith("Read digits.onnx: ")
    assert "Wrote digits.arm.onnx, digits.arm.json" in done.out
    assert "heavy operators run in integer" in done.out
    assert all(len(line) <= 80 for line in done.out.splitlines())
    assert _files() == ["digits.arm.json", "digits.arm.onnx", "digits.onnx"]
    assert model.read_bytes() == before
    assert Path("digits.arm.onnx").stat().st_size < len(before)

    report = json.loads(Path("digits.arm.json").read_text())
    assert {p["name"] for p in report["passes"]} >= {"fold-constants", "insert-qdq"}
    node = report["operators"][0]["node"]
    assert node in run("explain", node, "--report", "digits.arm.json").out

    assert "QuantizeLinear" in run("inspect", "digits.arm.onnx").out
    assert run("inspect", "digits.onnx", "--format", "json").json["facts"]["nodes"] > 10
    compared = run("diff", "digits.onnx", "digits.arm.onnx", "--data", DATA, "--format", "json")
    assert all(o["snr_db"] > 10 for o in compared.json["outputs"])
    timed = run("bench", "digits.arm.onnx", "--against", "digits.onnx", "--seconds", "0.2")
    assert "speed " in timed.out


@pytest.mark.usefixtures("model")
def test_json_is_one_document_and_equals_the_report(run: Callable) -> None:
    done = run("compile", "digits.onnx", "--target", "arm", "--data", DATA, "--format", "json")
    assert done.json["written"] == ["digits.arm.onnx", "digits.arm.json"]
    written = json.loads(Path("digits.arm.json").read_text())
    assert done.json["operators"] == written["operators"]


@pytest.mark.usefixtures("model")
def test_dry_run_writes_nothing(run: Callable) -> None:
    done = run("compile", "digits.onnx", "--target", "arm", "--dry-run")
    assert done.code == 0, done.err
    assert 'target = "arm" # --target' in done.out
    assert _files() == ["digits.onnx"]


@pytest.mark.usefixtures("model")
def test_a_limit_that_no_placement_meets_leaves_the_model_in_float(run: Callable) -> None:
    done = run("compile", "digits.onnx", "--target", "arm", "--data", DATA, "--min-snr", "200")
    assert done.code == 0, done.err
    assert "0 of 7 heavy operators run in integer" in done.out
    assert "below the limit of 200 dB" in done.out


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["compile", "nosuch.onnx"], "G201"),
        (["compile", "digits.onnx", "--target", "amr"], "G501"),
        (["compile", "digits.onnx", "--recipe", "nosuch"], "G106"),
        (["compile", "digits.onnx", "--recipe", "nosuch.toml"], "G109"),
        (["compile", "digits.onnx", "--set", "insert-qdq.wieghts=int8"], "G104"),
        (["compile", "digits.onnx", "--data", "nosuch.npz"], "G211"),
        (["compile", "digits.onnx", "-o", "digits.onnx"], "G208"),
        (["inspect", "text.onnx"], "G202"),
        (["estimate", "digits.onnx", "--target", "amr"], "G501"),
        (["targets", "amr"], "G501"),
        (["passes", "fold-constant"], "G105"),
        (["recipe", "check", "nosuch"], "G109"),
    ],
)
@pytest.mark.usefixtures("model")
def test_a_mistake_is_one_error_with_its_code(run: Callable, args: list[str], code: str) -> None:
    Path("text.onnx").write_text("this is no model, and says so at length\n")
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error[{code}]: "), done.err
    assert "Traceback" not in done.err
    assert _files() == ["digits.onnx", "text.onnx"]


@pytest.mark.usefixtures("model")
def test_estimate_targets_passes_plugins_and_recipe(run: Callable) -> None:
    assert "estimated, " in run("estimate", "digits.onnx", "--target", "arm").out
    assert "cortex-m4" in run("targets").out
    assert run("targets", "arm", "--format", "json").json["name"].startswith("arm64")
    assert "fold-constants exact" in " ".join(run("passes").out.split())
    assert run("passes", "insert-qdq").code == 0
    assert run("plugins").code == 0
    preset = run("recipe", "show").out.split()[0]
    Path("mine.toml").write_text(run("recipe", "show", preset).out)
    assert run("recipe", "check", "mine.toml").code == 0
