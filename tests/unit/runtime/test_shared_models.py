"""Real trained models: what the placement promises is what the runtime executes, node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import graphopt
from graphopt.runtime import census
from graphopt.testing import named_target

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Node

Array = np.ndarray[Any, Any]

SOURCES = {
    "cifar10": ("cifar10_dev.npz", "calib_x", 123.0, 58.0),
    "imagenet": ("imagenet_dev_r112.npz", "calib_x", 127.5, 127.5),
    "kws": ("kws_mfcc.npz", "calib_x", 0.0, 1.0),
    "mnist": ("mnist_test.npz", "x", 0.0, 1.0),
    "face": ("faces_320x240.npz", "x", 127.0, 128.0),
    "superres": ("superres_y_x3.npz", "lr", 0.0, 255.0),
}
"""File, array, mean and deviation by what a model's name starts with; channels come first after."""

HEAVY = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FAST = (
    "cifar10_resnet20_unfolded_bn",
    "dtln_model_1",
    "dtln_model_2",
    "face_rfb320_simplified",
    "imagenet_proxyless_w025_r112_unfolded_bn",
    "kws_dscnn_bn",
    "mnist_cntk",
    "superres_espcn_x3_y",
)
SLOW = (
    "cifar10_resnet20",
    "cifar10_resnet20_jpegft",
    "cifar10_resnet20_jpegft_unfolded_bn",
    "cifar10_resnet56",
    "cifar10_resnet56_unfolded_bn",
    "face_rfb320",
    "imagenet_proxyless_w025_r112",
    "stories260k_decoder",
)
FLOAT = {"face_rfb320": 1}
"""Heavy operators that stay in float: the 2 x 2 differences of a softmax over two classes, where
the convolutions before them cannot take them. Attention is one operator, which is not counted."""


def samples(shared: Path, name: str) -> Any:
    """Return four samples that the model may see."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    if name == "dtln_model_1":
        return [{"input_2": abs(draw(1, 1, 257)), "input_3": draw(1, 2, 128, 2)} for _ in range(4)]
    if name == "dtln_model_2":
        return [{"input_4": draw(1, 1, 512), "input_5": draw(1, 2, 128, 2)} for _ in range(4)]
    if name.startswith("stories"):
        with np.load(shared / "data" / "stories260k_tokens.npz") as held:
            return [{"input_ids": row[None].astype(np.int64)} for row in held["ids"][:4, :32]]
    file, key, mean, deviation = SOURCES[name.split("_")[0]]
    with np.load(shared / "data" / file) as held:
        array = held[key][:4].astype(np.float32)
    if array.ndim == 3:
        array = array[:, None]
    elif array.shape[-1] == 3:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray((array - np.float32(mean)) / np.float32(deviation))


def is_promised(node: Node) -> bool:
    """Whether data and weight both come out of a DQ."""
    sources = [v.producer for v in node.inputs[:2] if v is not None]
    return all(s is not None and s.op == "DequantizeLinear" for s in sources)


def check(shared: Path, name: str, target: str, placement: str) -> tuple[int, int]:
    """Compile; compare promise and execution; return how many are integer, and how many float."""
    compiled = graphopt.compile(
        shared / "models" / f"{name}.onnx",
        target=target,
        data=samples(shared, name),
        recipe="integer",
        overrides=[f"insert-qdq.placement={placement}", "limits.min-snr-db=-100"],
        measure=False,
    )
    assert [p.name for p in compiled.report.passes if p.status == "rolled back"] == []
    heavy = [n for n in compiled.graph.walk() if n.op in HEAVY]
    counted = census(compiled.graph, named_target(target)).heavy
    executed = [e for e in counted if e.op in HEAVY]
    assert not any(e.integer for e in counted if e.op not in HEAVY)
    assert [is_promised(n) for n in heavy] == [e.integer for e in executed]
    reported = {o.node: o.execution for o in compiled.report.operators}
    assert reported == {e.node: e.arithmetic for e in counted}
    assert all(o.reason for o in compiled.report.operators if o.execution == "float")
    integer = sum(e.integer for e in executed)
    record = next(p for p in compiled.report.passes if p.name == "insert-qdq")
    assert record.metrics.get("integer", 0) == integer
    return integer, len(executed) - integer


@pytest.mark.parametrize("target", ["host", "arm64-dotprod"])
@pytest.mark.parametrize("name", FAST)
def test_every_operator_runs_as_promised(shared: Path, name: str, target: str) -> None:
    _, floats = check(shared, name, target, "integer")
    assert floats == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "arm64-dotprod"])
@pytest.mark.parametrize("name", SLOW)
def test_every_operator_of_the_others_runs_as_promised(
    shared: Path, name: str, target: str
) -> None:
    _, floats = check(shared, name, target, "integer")
    assert floats == FLOAT.get(name, 0)


@pytest.mark.parametrize("placement", ["head-1-tail-1", "head-3", "tail-2"])
@pytest.mark.parametrize("name", ["kws_dscnn_bn", "dtln_model_2", "cifar10_resnet20_unfolded_bn"])
def test_float_heads_and_tails_stay_float(shared: Path, name: str, placement: str) -> None:
    integer, floats = check(shared, name, "host", placement)
    assert integer > 0
    assert floats >= 2


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["head-1-tail-1", "head-2", "head-3", "tail-2"])
@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_float_heads_and_tails_of_every_model_stay_float(
    shared: Path, name: str, placement: str
) -> None:
    check(shared, name, "arm64-dotprod", placement)


def test_all_shared_models_are_covered(shared: Path) -> None:
    assert {p.stem for p in (shared / "models").glob("*.onnx")} == {*FAST, *SLOW}
