"""The shipped models are what their manifest and README say, and int8 does not break them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime import quantization

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

MODELS = Path(__file__).resolve().parents[3] / "models"
MANIFEST = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
NAMES = sorted(MANIFEST)


@pytest.fixture(scope="module")
def measuring() -> Iterator[ModuleType]:
    """Return models/measure_accuracy.py as a module."""
    spec = importlib.util.spec_from_file_location("measuring", MODELS / "measure_accuracy.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_data_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODELS / MANIFEST[name]["test"]) as arrays:
        return arrays["input"], arrays["labels"]


test_data_of.__test__ = False


def accuracy_of(path: Path, name: str) -> float:
    samples, labels = test_data_of(name)
    (logits,) = session_of(path).run(None, {"input": samples})
    return float((logits.argmax(axis=1) == labels).mean())


def operators_of(name: str) -> list[str]:
    model = onnx.load(MODELS / MANIFEST[name]["file"])
    return [node.op_type for node in model.graph.node]


def test_the_manifest_and_the_readme_hold_the_measured_figures(measuring: ModuleType) -> None:
    figures = {name: measuring.measure(name) for name in measuring.SHIPPED}
    assert measuring.differences(figures) == []


def test_a_wrong_figure_is_found(measuring: ModuleType, monkeypatch, tmp_path: Path) -> None:
    wrong = json.loads(json.dumps(MANIFEST))
    wrong["digits_resnet"]["accuracy"] -= 0.01
    wrong["waveform_transformer"]["parameters"] += 1
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(wrong), encoding="utf-8")
    monkeypatch.setattr(measuring, "MANIFEST", path)
    figures = {name: measuring.Measured(**entry) for name, entry in MANIFEST.items()}
    lines = measuring.differences(figures)
    assert [line.split(" is ")[0] for line in sorted(lines)[1:]] == [
        "digits_resnet: accuracy",
        "waveform_transformer: parameters",
    ]
    assert sorted(lines)[0].startswith("README.md")


def test_models_and_data_stay_small() -> None:
    files = [*MODELS.glob("*.onnx"), *MODELS.glob("*.npz")]
    assert len(files) == 3 * len(NAMES)
    assert sum(file.stat().st_size for file in files) < 1_200_000


@pytest.mark.parametrize("name", NAMES)
def test_data_feed_the_model_and_calibration_is_not_test(name: str) -> None:
    samples, labels = test_data_of(name)
    with np.load(MODELS / MANIFEST[name]["calibration"]) as arrays:
        assert arrays.files == ["input"]
        calibration = arrays["input"]
    assert samples.dtype == calibration.dtype == np.float32
    assert samples.shape[1:] == calibration.shape[1:]
    assert labels.dtype == np.int64
    assert np.bincount(labels).min() > 0.05 * len(labels)
    seen = {sample.tobytes() for sample in calibration}
    assert len(seen) == len(calibration)
    assert not any(sample.tobytes() in seen for sample in samples)


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_axis_is_dynamic(name: str) -> None:
    samples, _ = test_data_of(name)
    session = session_of(MODELS / MANIFEST[name]["file"])
    (together,) = session.run(None, {"input": samples[:5]})
    apart = [session.run(None, {"input": sample[None]})[0] for sample in samples[:5]]
    # Logits are of order 10; kernels may block a larger batch differently.
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", [1, 20, 31, 32])
def test_the_transformer_takes_shorter_series(length: int) -> None:
    samples, _ = test_data_of("waveform_transformer")
    session = session_of(MODELS / "waveform_transformer.onnx")
    (logits,) = session.run(None, {"input": samples[:3, :length]})
    assert logits.shape == (3, 8)
    assert np.isfinite(logits).all()


def test_the_graphs_leave_work_to_the_compiler() -> None:
    convolutional = operators_of("digits_resnet")
    assert convolutional.count("BatchNormalization") == convolutional.count("Conv") == 6
    assert convolutional.count("Add") == 2
    sequential = operators_of("waveform_transformer")
    assert {"Shape", "Gather", "Concat", "Slice", "Erf", "Softmax"} <= set(sequential)
    assert sequential.count("LayerNormalization") == 5


@pytest.mark.parametrize("name", NAMES)
def test_plain_int8_costs_at_most_one_point(name: str, tmp_path: Path) -> None:
    with np.load(MODELS / MANIFEST[name]["calibration"]) as arrays:
        feeds = iter([{"input": arrays["input"]}])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(feeds, None)

    prepared, quantized = tmp_path / "prepared.onnx", tmp_path / "quantized.onnx"
    source = MODELS / MANIFEST[name]["file"]
    quantization.quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared,
        quantized,
        Reader(),
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    assert quantized.stat().st_size < 0.6 * source.stat().st_size
    assert accuracy_of(quantized, name) >= MANIFEST[name]["accuracy"] - 0.01
