"""`--recover` on the command line: what it asks for, what it prints, and how it fails."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pytest

from graphopt import report as r
from graphopt.cli.render_compile import summary
from graphopt.cli.render_recovery import recovered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WON = r.RecoveryRecord("distill-weights", "float", 1200, 93.0, 0.412, 0.087, "auto", True)
LOST = r.RecoveryRecord(
    "distill-weights", "quantized", 300, 20.0, 0.05, 0.05, "", False, "made nothing better"
)

TABLE = """\
  trained          steps  minutes  divergence  after
  float model      1,200      1.6       0.412  0.087  kept; samples varied: auto
  quantized model    300      0.3        0.05   0.05  made nothing better"""


def test_the_summary_says_what_was_trained(report: r.Report) -> None:
    lines = recovered([WON, LOST])
    plain = [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in lines]
    assert "\n".join(plain) == TABLE
    made = dataclasses.replace(report, recovery=(WON,))
    assert any(line.startswith("  float model") for line in summary(made, (), ()))
    assert "trained" not in "\n".join(summary(report, (), ()))


def test_what_is_not_known_is_a_dash() -> None:
    unknown = dataclasses.replace(WON, before=None, after=None)
    assert recovered([unknown])[1].split()[4:6] == ["-", "-"]
    assert unknown.won is None
    assert WON.won == pytest.approx(1 - 0.087 / 0.412)


def test_the_option_reaches_the_recipe(run: Callable, api: Any, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"original")
    found = run("compile", model, "--recover", "light", "-o", tmp_path / "o.onnx")
    assert found.code == 0
    assert api.calls[0]["recover"] == "light"
    run("compile", model, "-o", tmp_path / "o.onnx")
    assert "recover" not in api.calls[2]


@pytest.mark.parametrize("command", ["compile", "search"])
def test_what_is_no_amount_is_told_before_anything_is_read(
    run: Callable, command: str, models: Path
) -> None:
    data = models / "digits.npz"
    found = run(command, models / "digits_resnet.onnx", "--data", data, "--recover", "loads")
    assert found.code == 2
    assert "error[G103]: `loads` is no amount of training" in found.err
    assert "steps=200" in found.err


def test_without_the_plugin_a_warning_says_what_to_install(
    run: Callable, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHOPT_PLUGINS", "")
    found = run(
        "compile", models / "digits_resnet.onnx", "--target", "arm", "--recover", "full",
        "-o", tmp_path / "o.onnx",
    )  # fmt: skip
    assert found.code == 0
    assert "W405" in found.err
    assert "pip install graphopt-torch" in " ".join(found.err.split())


def test_the_code_is_explained(run: Callable) -> None:
    found = run("explain", "W405")
    assert found.code == 0
    assert "graphopt-torch" in found.out
