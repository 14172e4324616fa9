"""Whole models: float latency against what was measured on a Zen 4 core, and exact sizes."""

from __future__ import annotations

import pytest

from graphopt import ir
from graphopt.cost import Roofline

# Microseconds of the float model on one Zen 4 core (reference/placement.md).
MODELS = {
    "cifar10_resnet20_jpegft_unfolded_bn": (809, {}),
    "imagenet_proxyless_w025_r112_unfolded_bn": (494, {}),
    "kws_dscnn_bn": (66, {}),
    "superres_espcn_x3_y": (10244, {"H": 96, "W": 96}),
    "stories260k_decoder": (2980, {"T": 160}),
    "dtln_model_1": (59, {}),
    "dtln_model_2": (92, {}),
    "mnist_cntk": (42, {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_float_models_are_within_a_factor_of_1_6(shared, targets, name):
    measured, dims = MODELS[name]
    graph = ir.load(shared / "models" / f"{name}.onnx")
    found = Roofline(dims).estimate(graph, targets["x86-avx512-vnni"])
    assert measured / 1.6 < found.latency_ms.value * 1e3 < measured * 1.6


def test_estimating_leaves_the_model_as_it_was(shared, targets):
    graph = ir.load(shared / "models" / "cifar10_resnet20.onnx")
    before = ir.to_bytes(graph)
    Roofline().estimate(graph, targets["arm64-dotprod"])
    assert ir.to_bytes(graph) == before


def test_size_is_the_file_and_weights_are_the_parameters(shared, targets):
    path = shared / "models" / "face_rfb320_simplified.onnx"  # initializers listed as inputs
    found = Roofline().estimate(ir.load(path), targets["cortex-m7"])
    assert found.size_bytes == path.stat().st_size
    assert found.weight_bytes == pytest.approx(4 * 273_912, rel=1e-3)
