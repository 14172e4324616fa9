"""Options, targets, passes, presets and keys that do not exist, and outputs that cannot be."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import graphopt
from graphopt.errors import ModelError
from tests.bad_input.mistakes import model, run, write

if TYPE_CHECKING:
    from tests.bad_input.mistakes import Bench


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--target", "amr"], "G501", "did you mean `arm`"),
        (["--target", "nope.toml"], "G501", "nope.toml"),
        (["--tagret", "arm"], "G108", "did you mean `--target`"),
        (["--min-snr", "loud"], "G108", "loud"),
        (["--target"], "G108", "argument"),
        (["surplus"], "G108", "surplus"),
        (["--set", "fold-constant.max-bytes=1"], "G105", "fold-constant"),
        (["--set", "insert-qdq.placment=x"], "G104", "did you mean `placement`"),
        (["--set", "upgrade-opset.to=many"], "G103", "whole number"),
        (["--set", "limits.min-snr=3"], "G102", "min-snr"),
        (["--set", "nonsense"], "G108", "pass.option=value"),
        (["--recipe", "defualt"], "G106", "default"),
        (["--recipe", "nope.toml"], "G109", "nope.toml"),
        (["--dump-after", "nope", "d"], "G105", "nope"),
        (["--explain", "nope"], "G205", "nope"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_does_not_exist_is_named(bench: Bench, args: list[str], code: str, said: str) -> None:
    shown = bench.refused("compile", write(model()), *args)
    assert shown.code == code
    assert said in f"{shown.message} {shown.where} {shown.hint}"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("version = 1\ntragte = 'arm'\n", "G102", 2),
        ("version = 1\n[limits]\nmin-snr = 3\n", "G102", 3),
        ("version = 1\n[[passes]]\nuse = 'fold-constant'\n", "G105", 3),
        ("version = 1\n[[passes]]\nuse = 'insert-qdq'\nplacment = 'x'\n", "G104", 4),
        ("version = 1\n[[passes]]\nuse = 'upgrade-opset'\nto = 'many'\n", "G103", 4),
        ("version = = 1\n", "G101", 1),
        ("version = 1\n\x00", "G101", 2),
    ],
    ids=["key", "table key", "pass", "option", "value", "toml", "nul"],
)
def test_a_mistake_in_a_recipe_is_shown_with_its_line(
    bench: Bench, text: str, code: str, line: int
) -> None:
    Path("r.toml").write_text(text)
    shown = bench.refused("compile", write(model()), "--recipe", "r.toml")
    assert shown.code == code
    assert shown.where.startswith(f"r.toml:{line}")


def test_a_recipe_that_is_no_text(bench: Bench) -> None:
    Path("r.toml").write_bytes(b"\xff\xfe\x00")
    assert bench.refused("compile", write(model()), "--recipe", "r.toml").code in {"G101", "G109"}


# -- outputs -------------------------------------------------------------------------------


def _links() -> None:
    Path("link.onnx").symlink_to("m.onnx")
    os.link("m.onnx", "hard.onnx")
    Path("sub").mkdir()


@pytest.mark.parametrize(
    "output", ["m.onnx", "./sub/../m.onnx", "link.onnx", "hard.onnx", "{here}/m.onnx"]
)
def test_the_input_is_never_the_output(bench: Bench, output: str) -> None:
    path = write(model())
    _links()
    shown = bench.refused("compile", path, "-o", output.format(here=Path.cwd()))
    assert shown.code == "G208"
    assert "never overwritten" in shown.message
    assert shown.where
    assert shown.hint


def test_an_input_behind_a_link_is_not_the_output_either(bench: Bench) -> None:
    write(model())
    _links()
    assert bench.refused("compile", "link.onnx", "-o", "m.onnx").code == "G208"


def test_an_input_named_as_the_report_is_not_overwritten_by_it(bench: Bench) -> None:
    path = write(model(), "m.json")
    assert bench.refused("compile", path, "-o", "m.onnx").code == "G208"
    assert bench.refused("compile", path, "-o", "other.json").code == "G208"


def test_save_refuses_the_input_too() -> None:
    path = write(model())
    _links()
    compiled = graphopt.compile(path, measure=False)
    before = {p.name: p.read_bytes() for p in Path().glob("*.onnx")}
    for name in before:
        with pytest.raises(ModelError, match="never overwritten") as raised:
            compiled.save(name)
        assert raised.value.code == "G208"
    assert {p.name: p.read_bytes() for p in Path().glob("*.onnx")} == before
    assert not list(Path().glob("*.json"))


@pytest.mark.parametrize("output", ["folder", "nope/o.onnx", "m.onnx/o.onnx", "/proc/o.onnx"])
def test_a_place_that_cannot_be_written(bench: Bench, output: str) -> None:
    path = write(model())
    Path("folder").mkdir()
    shown = bench.refused("compile", path, "-o", output)
    assert shown.code == "G208"
    assert shown.where == output
    assert shown.hint


def test_a_disk_that_is_full_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(model())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    shown = bench.refused("compile", path, "-o", "o.onnx")
    assert shown.code == "G208"
    assert "No space left" in shown.message


def test_a_report_that_cannot_be_written_is_an_error(bench: Bench) -> None:
    path = write(model())
    Path("o.json").mkdir()
    shown = bench.refused("compile", path, "-o", "o.onnx")
    assert shown.code == "G208"


def test_an_older_output_stays_when_the_compile_fails(bench: Bench) -> None:
    written = bench.compiles(write(model()))
    Path("bad.onnx").write_bytes(b"no model")
    bench.refused("compile", "bad.onnx", "-o", written)
    assert run(written, {"x": [[1.0, -1.0, 0.0, 2.0]]})[0].tolist() == [[1.0, 0.0, 0.0, 2.0]]


def test_a_target_that_cannot_hold_the_model_is_exit_1(bench: Bench) -> None:
    path = Path(__file__).parents[2] / "models" / "digits_resnet.onnx"
    text = (files("graphopt.targets") / "data" / "cortex-m4.toml").read_text(encoding="utf-8")
    tiny = text.replace("storage_limit_bytes = 2097152", "storage_limit_bytes = 1024", 1)
    assert tiny != text
    Path("tiny.toml").write_text(tiny, encoding="utf-8")
    given = ("compile", path, "-o", "o.onnx", "--target", "tiny.toml")
    shown = bench.refused(*given, exit_code=1)
    assert shown.code == "G503"
    assert "of storage where it has 1 KiB" in shown.message
    assert "--keep" in shown.hint
