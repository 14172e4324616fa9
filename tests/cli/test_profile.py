"""`graphopt profile`: what it prints, on 80 columns, as JSON, and when something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from graphopt import api
from graphopt.api.profiling import Profiled
from graphopt.cost.profiling import bundle
from graphopt.targets.profile import DeviceProfile, KernelCurve

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.testing import Outcome

MADE = DeviceProfile(
    device="AMD EPYC 9R14 with a name that is rather long \x1b[31m",
    base="x86-avx512-vnni",
    runtime="onnxruntime 1.31.1",
    threads=1,
    governor="",
    curves={
        "float32.Conv": KernelCurve({"call": 1.0}, 0.91, 1.12, 84),
        "int8.QLinearConv": KernelCurve({"call": 1.0}, 0.85, 1.2, 61),
        "int8.conv": KernelCurve({"call": 1.0}, 0.88, 1.25, 70),
    },
    low=0.93,
    high=1.08,
    notes=("Clip/float32/0 and 2 more: was disturbed while it was timed",),
)
RESULT = Profiled(MADE, None, kept=True, kernels=512, models=34, spread=0.012, threads=(1, 2))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    calls: list[dict[str, object]] = []

    def profile(**given: object) -> Profiled:
        calls.append(given)
        path = given["output"]
        kept = given["source"] is None
        assert path is None or isinstance(path, Path)
        return Profiled(MADE, path, kept, 512, 34, 0.012 if kept else 0.2, (1, 2))

    monkeypatch.setattr(api, "profile", profile)
    return calls


def test_a_profile_is_told_in_80_columns(
    run: Callable[..., Outcome], answer: list[dict[str, object]]
) -> None:
    done = run("profile", "--minutes", "2")
    assert done.code == 0, done.err
    assert answer[0]["minutes"] == 2.0
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert "\x1b[31m" not in done.out
    for text in (
        "base          x86-avx512-vnni",
        "threads       1, 2",
        "governor      not told",
        "512 kernels, 34 whole models",
        "steady: one model took the same time within 1.2% throughout",
        "90 % of times within -7 % to +8 % of the estimate",
        "the target `host` uses this profile from now on",
        "note: Clip/float32/0 and 2 more",
    ):
        assert text in done.out
    rows = [line.split() for line in done.out.splitlines() if line.startswith("  int8.")]
    assert rows == [["int8.conv", "70", "-12", "%", "to", "+25", "%"]]
    assert "  2 finer classes; -v lists all" in done.out
    assert "  float32.Conv " in run("profile", "-v").out


def test_a_device_that_drifts_is_told(
    run: Callable[..., Outcome], answer: list[dict[str, object]]
) -> None:
    done = run("profile", "--from", "results.json", "-o", "my-device.json", "--base", "arm")
    assert done.code == 0, done.err
    assert answer[0]["base"] == "arm"
    assert "drifted: one model took up to 20% longer" in done.out
    assert "wrote my-device.json: a target as `--target ./my-device.json`" in done.out
    assert "host" not in done.out


def test_json_has_the_whole_profile(
    run: Callable[..., Outcome], answer: list[dict[str, object]]
) -> None:
    done = run("profile", "--format", "json")
    assert answer
    assert done.json["profile"]["curves"]["float32.Conv"]["points"] == 84
    assert done.json["kept"] is True
    assert done.err == ""


def test_quiet_measures_without_a_word(
    run: Callable[..., Outcome], answer: list[dict[str, object]]
) -> None:
    done = run("profile", "-q")
    assert answer[0]["quiet"] is True
    assert done.out == done.err == ""


def test_a_bundle_says_how_it_is_used(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundle, "jobs", tuple)
    path = tmp_path / "device.pyz"
    done = run("profile", "--bundle", path)
    assert done.code == 0, done.err
    assert path.read_bytes().startswith(b"#!/usr/bin/env python3\nPK")
    assert "python device.pyz results.json" in done.out
    told = run("profile", "--bundle", path, "--format", "json").json
    assert told == {"bundle": str(path), "bytes": path.stat().st_size}


def test_a_bundle_that_cannot_be_written_is_told(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bundle, "jobs", tuple)
    done = run("profile", "--bundle", tmp_path / "no" / "device.pyz")
    assert done.code == 2
    assert "error[G504]: cannot write" in done.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--from", "absent.json", "-o", "x.json"), "G504"),
        (("--from", "results.json"), "G108"),
        (("--minutes", "0"), "G108"),
        (("--from", "t.csv", "-o", "x.json"), "G108"),
        (("--from", "r.json", "-o", "x.json", "--base", "nothing"), "G501"),
    ],
)
def test_mistakes_have_codes(
    run: Callable[..., Outcome], arguments: tuple[str, ...], code: str
) -> None:
    done = run("profile", *arguments)
    assert done.code == 2
    assert f"error[{code}]" in done.err
    assert "hint:" in done.err
    assert done.out == ""


def test_an_estimate_for_host_says_what_would_sharpen_it(
    run: Callable[..., Outcome], models: Path
) -> None:
    from graphopt.api.host_profile import keep_host_profile

    model = next(models.rglob("*.onnx"))
    assert "`graphopt profile`" in run("estimate", model).err
    assert "`graphopt profile`" not in run("estimate", model, "--target", "arm").err
    keep_host_profile(MADE)
    assert "`graphopt profile`" not in run("estimate", model).err
