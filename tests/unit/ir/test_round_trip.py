"""Every model at hand goes through the door and comes out equal, in content and in outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from graphopt import ir

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(onnx.__file__).parent / "backend" / "test" / "data"
SHIPPED = sorted(PACKAGE.rglob("*.onnx"))
GROUPS = {"light": 9, "pytorch-converted": 82, "pytorch-operator": 35, "simple": 23}
SHARED = (
    *("cifar10_resnet20", "cifar10_resnet20_jpegft", "cifar10_resnet20_jpegft_unfolded_bn"),
    *("cifar10_resnet20_unfolded_bn", "cifar10_resnet56", "cifar10_resnet56_unfolded_bn"),
    *("dtln_model_1", "dtln_model_2", "face_rfb320", "face_rfb320_simplified"),
    *("imagenet_proxyless_w025_r112", "imagenet_proxyless_w025_r112_unfolded_bn"),
    *("kws_dscnn_bn", "mnist_cntk", "stories260k_decoder", "superres_espcn_x3_y"),
)

# What neither onnxruntime nor onnx's reference implementation of the versions at hand runs.
UNRUNNABLE = {"test_gradient_of_add", "test_gradient_of_add_and_mul"}


def _name(path: Path) -> str:
    return path.stem if path.parent.name == "light" else path.parent.name


def _assert_equal_content(path: Path) -> tuple[bytes, bytes]:
    before = path.read_bytes()
    original = onnx.ModelProto.FromString(before)
    graph = ir.load(path)
    ir.verify(graph)
    after = ir.to_bytes(graph)
    assert onnx.ModelProto.FromString(after) == original
    assert onnx.ModelProto.FromString(ir.to_bytes(graph.copy())) == original
    assert ir.structural_hash(graph) == ir.structural_hash(ir.from_bytes(after))
    return before, after


def test_the_package_ships_what_these_tests_expect() -> None:
    found = {group: len(list((PACKAGE / group).rglob("*.onnx"))) for group in GROUPS}
    assert found == GROUPS


@pytest.mark.parametrize("path", SHIPPED, ids=_name)
def test_a_model_of_the_onnx_package_round_trips(path: Path) -> None:
    before, after = _assert_equal_content(path)
    engine = _engine(before)
    if engine is None:
        assert _name(path) in UNRUNNABLE
        return
    feeds = _package_feeds(path, onnx.ModelProto.FromString(before))
    second = _engine(after)
    assert second is not None
    _assert_equal(engine(feeds), second(feeds))


@pytest.mark.parametrize("name", SHARED)
def test_a_real_model_round_trips(shared: Path, name: str) -> None:
    assert {p.stem for p in (shared / "models").glob("*.onnx")} == set(SHARED)
    _assert_round_trip(shared / "models" / f"{name}.onnx")


@pytest.mark.parametrize("name", ["digits_resnet", "waveform_transformer"])
def test_a_model_of_this_repository_round_trips(models: Path, name: str) -> None:
    _assert_round_trip(models / f"{name}.onnx")


def _assert_round_trip(path: Path) -> None:
    before, after = _assert_equal_content(path)
    first, second = _engine(before), _engine(after)
    assert first is not None
    assert second is not None
    feeds = _random_feeds(before)
    _assert_equal(first(feeds), second(feeds))


def _assert_equal(first: list[Any], second: list[Any]) -> None:
    """The same engine on equal models: equal to the last bit."""
    assert len(first) == len(second)
    for expected, found in zip(first, second, strict=True):
        if isinstance(expected, list):
            _assert_equal(expected, found)
        else:
            np.testing.assert_array_equal(expected, found)


def _engine(model: bytes) -> Callable[[dict[str, Any]], list[Any]] | None:
    """Return a function that runs the model: onnxruntime, else the reference implementation."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:
        try:
            reference = ReferenceEvaluator(onnx.ModelProto.FromString(model))
        except Exception:
            return None
        return lambda feeds: list(reference.run(None, feeds))
    return lambda feeds: list(session.run(None, feeds))


def _package_feeds(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    stored = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in stored]
    folder = path.parent / "test_data_set_0"
    if not folder.is_dir():
        return {i.name: np.ones([d.dim_value for d in _dims(i)], np.float32) for i in inputs}
    feeds: dict[str, Any] = {}
    for index, info in enumerate(inputs):
        data = (folder / f"input_{index}.pb").read_bytes()
        if info.type.HasField("sequence_type"):
            feeds[info.name] = numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        else:
            feeds[info.name] = numpy_helper.to_array(onnx.TensorProto.FromString(data))
    return feeds


def _dims(info: onnx.ValueInfoProto) -> Any:
    return info.type.tensor_type.shape.dim


def _random_feeds(model: bytes) -> dict[str, Any]:
    """Return seeded values; symbolic dimensions are 2, integers small, caches of no length."""
    from graphopt.testing import random_feeds

    return dict(random_feeds(ir.from_bytes(model))[0])
