"""A report made by hand, an API that returns it, and a way to run one command in this process."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

import graphopt
from graphopt import report as r
from graphopt.cli.encode import to_json
from graphopt.cli.main import main
from graphopt.recipe import ResolvedRecipe
from graphopt.recipe.schema import PassEntry, Recipe
from graphopt.testing import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "GRAPHOPT_FORMAT", "GRAPHOPT_COLOR", "GRAPHOPT_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def _run(*args: object) -> Outcome:
        code = main([str(a) for a in args])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return _run


@pytest.fixture
def report() -> r.Report:
    """A compile of an invented model: no figure in it was measured."""
    shared = "its weight is shared with `Conv_43`"
    return r.Report(
        graphopt="0.1.0",
        versions={"onnxruntime": "1.31.1"},
        machine={"cpu": "x"},
        target="arm",
        source=r.ModelFacts("resnet18.onnx", 69, 11_689_512, 46_765_670, 17, "aa"),
        result=r.ModelFacts("resnet18.arm.onnx", 49, 11_689_512, 11_800_000, 17, "bb"),
        recipe="version = 1\n",
        passes=(
            r.PassRecord(
                "fold-constants", "exact", {"max_size": 1024}, "changed", 0.12, ("3 nodes folded",)
            ),
            r.PassRecord(
                "fuse-conv-batchnorm",
                "exact",
                {},
                "changed",
                0.2,
                ("20 pairs fused",),
                {"fused": 20.0},
                max_error=3.1e-7,
            ),
            r.PassRecord("eliminate-identity", "exact", {}, "unchanged", 0.01),
            r.PassRecord(
                "insert-qdq",
                "approximate",
                {},
                "changed",
                31.4,
                ("21 of 22 heavy operators in integer", "bias of 20 Conv as int32, 1 Gemm"),
                snr_db=31.2,
            ),
            r.PassRecord(
                "fancy-pass",
                "exact",
                {},
                "rolled back",
                1.0,
                reason="the outputs differ by 0.5 of the largest value, and 1e-4 is allowed",
            ),
        ),
        operators=(
            *(r.OperatorRecord(f"Conv_{i}", "Conv", "integer", "QLinearConv") for i in range(21)),
            r.OperatorRecord("Conv_41", "Conv", "float", "FusedConv", shared),
        ),
        figures=(
            r.FigureRecord("size", "bytes", 46_765_670, 11_800_000, "measured", "file"),
            r.FigureRecord(
                "latency", "ms", 41.2, 12.9, "estimated", "arm64-neon, one thread", 9.8, 16.0
            ),
            r.FigureRecord("peak activations", "bytes", 6.4e6, 1.6e6, "estimated", "liveness"),
            r.FigureRecord("SNR", "dB", float("inf"), 31.2, "measured", "16 held-out samples"),
        ),
        candidates=(
            r.CandidateRecord(
                "all integer", 3.19, "estimated", 31.2, True, "fastest that is allowed"
            ),
            r.CandidateRecord("depthwise in float", 2.8, "estimated", 33.0, False),
            r.CandidateRecord("original", 1.0, "estimated", None, False),
        ),
        explanations=(r.Explanation("Conv_41", "insert-qdq", shared),),
        notices=(r.Notice("W301", f"`Conv_41` stayed float32: {shared}", "run with `--explain`"),),
        calibration=r.CalibrationRecord("data/calib", 256, 16, "cc", "minmax"),
        seconds=34.7,
    )


@dataclasses.dataclass
class FakeCompiled:
    report: r.Report

    def save(self, path: Path, *, html: bool = False) -> tuple[Path, Path]:
        assert not html
        path.write_bytes(b"model")
        report = path.with_suffix(".json")
        report.write_text(to_json(self.report), encoding="utf-8")
        return path, report


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, report: r.Report) -> types.ModuleType:
    """An API with the signatures of the real one; ``calls`` has what the command line asked for."""
    # Commands import it from the real package, which is not there any more afterwards.
    importlib.import_module("graphopt.api.requested")
    fake = types.ModuleType("graphopt.api")
    calls: list[dict[str, Any]] = []

    def compile_(model: Path, *, observe: r.Observe, **given: Any) -> FakeCompiled:
        calls.append({"model": model, **given})
        for record in report.passes:
            observe.pass_started(record.name)
            observe.progress("calibration", 1, 2)
            observe.pass_finished(record)
        return FakeCompiled(report)

    def resolve_recipe(**given: Any) -> ResolvedRecipe:
        calls.append(given)
        target = given.get("target") or "host"
        recipe = Recipe(target=target, passes=(PassEntry("fold-constants"),))
        return ResolvedRecipe(recipe, sources=("preset default",))

    fake.calls = calls  # type: ignore[attr-defined]
    fake.compile = compile_  # type: ignore[attr-defined]
    fake.resolve_recipe = resolve_recipe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "graphopt.api", fake)
    monkeypatch.setattr(graphopt, "api", fake, raising=False)
    return fake
