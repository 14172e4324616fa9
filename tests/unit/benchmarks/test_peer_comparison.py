"""The rules of the comparison with other tools: what counts, what is kept, what is missed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.testing import graph

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def quality(load: Any, metric: str, samples: list[float], snr_db: float = 30.0) -> Any:
    return load("peer_quality").Quality(metric, tuple(samples), snr_db, None)


def test_a_loss_is_paired_and_its_interval_that_of_the_mean_difference(load: Any) -> None:
    before = [100.0] * 8 + [0.0] * 2
    after = [100.0] * 7 + [0.0] + [0.0, 100.0]
    found = load("peer_quality").loss(quality(load, "top1", before), quality(load, "top1", after))
    differences = np.array(before) - np.array(after)
    half = 1.96 * np.std(differences, ddof=1) / np.sqrt(10)
    assert found.drop == pytest.approx(0.0)
    assert found.interval == pytest.approx((-half, half))


@pytest.mark.parametrize(
    ("metric", "drop", "snr_db", "wanted"),
    [
        ("top1", 1.0, 5.0, True),
        ("top1", 1.01, 60.0, False),
        ("next_token", 0.9, 5.0, True),
        ("next_token", 40.0, 10.0, False),
        ("psnr_db", 0.5, 19.9, False),
        ("psnr_db", 0.5, 20.0, True),
        ("si_sdr_db", 0.3, 5.0, True),
        ("snr_db", 0.0, 19.9, False),
        ("snr_db", 0.0, 20.1, True),
    ],
)
def test_which_peers_are_acceptable(
    load: Any, metric: str, drop: float, snr_db: float, wanted: bool
) -> None:
    before = quality(load, metric, [50.0], 200.0)
    after = quality(load, metric, [50.0 - drop], snr_db)
    assert load("peer_quality").acceptable(before, after) is wanted


def test_a_classifier_must_be_as_good_on_the_score_itself(load: Any) -> None:
    module = load("peer_quality")
    ours = quality(load, "top1", [90.0])
    assert module.as_good(quality(load, "top1", [90.0]), ours)
    assert not module.as_good(quality(load, "top1", [89.9]), ours)


class FakeWorkload:
    name = "fake"
    metric = "top1"

    def __init__(self, path: Path) -> None:
        self.path = path


def make(load: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Any:
    module = load("peer_models")
    (folder / "tool.py").write_text(script)
    (folder / "samples.py").write_text("")
    for name in ("model.onnx", "data.npz"):
        (folder / name).write_bytes(b"x")
    monkeypatch.setattr(module, "SCRIPTS", folder)
    monkeypatch.setattr(module, "python_of", lambda name, where: Path(sys.executable))
    peer = module.Peer("a tool", "ort", "tool")
    return module.make(peer, FakeWorkload(folder / "model.onnx"), folder / "data.npz", folder)


def test_a_failing_peer_is_recorded_with_its_last_words(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(load, tmp_path, monkeypatch, "raise ValueError('opset too old')")
    assert (first.path, first.reason) == (None, "ValueError: opset too old")
    assert make(load, tmp_path, monkeypatch, "raise ValueError('opset too old')") == first


def test_reasons_name_no_folder_of_this_machine(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys; raise ValueError(f'{sys.argv[1]} is too old')"
    assert make(load, tmp_path, monkeypatch, script).reason == "ValueError: model.onnx is too old"
    error = RuntimeError(f"Load model from {tmp_path}/m.onnx failed:This is an invalid model.")
    said = load("peer_models").refusal(error)
    assert said == "onnxruntime refuses its model: This is an invalid model."


def test_a_model_is_made_once_and_again_when_the_script_changes(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, pathlib; pathlib.Path(sys.argv[3]).write_text('model {}')"
    first = make(load, tmp_path, monkeypatch, script.format(1))
    first.path.write_text("kept")
    assert make(load, tmp_path, monkeypatch, script.format(1)).path.read_text() == "kept"
    assert make(load, tmp_path, monkeypatch, script.format(2)).path.read_text() == "model 2"


def row(speed: float, ratio: float, holds: bool = True) -> dict[str, object]:
    best = {"peer": "a", "peer_speed": speed / ratio, "ratio": ratio}
    return {
        "speed": speed,
        "accuracy_holds": holds,
        "best_acceptable": best,
        "best_as_accurate": best,
    }


def test_bars_are_means_and_minima_over_the_models(load: Any) -> None:
    summary = load("peers").summarise([row(2.0, 1.5), row(1.6, 0.98)])
    assert summary["geomean_against_fp32"] == pytest.approx(np.sqrt(3.2), abs=1e-3)
    assert summary["lowest_against_best_acceptable"] == 0.98
    assert all(summary["bars"].values())
    missed = load("peers").summarise([row(2.0, 1.5), row(0.9, 0.9, holds=False)])
    assert not any(missed["bars"].values())


def test_an_operator_that_is_not_executed_as_reported_is_named(load: Any) -> None:
    module = load("arm64_fusion")
    model = graph("m (float[1, 4] a, float[4, 4] b) => (float[1, 4] y) { y = MatMul (a, b) }")
    next(model.walk()).name = "op_0_"
    case = module.Case(None, "arm64-dotprod", "integer", model, {"op_0_": "integer"}, [])
    found = module.witness(case, model, set())
    assert (found["integer"], found["missing"]) == (0, ["op_0_"])
    assert not module.holds({"arm64": found})
