"""Is int8 faster? By target and kernel class, against what was measured or published.

Sources: MACs per instruction of onnxruntime's arm64 kernels (reference/cost-model.md, 3.2), gains
by instruction set (section 4), kernel times on Zen 4 (reference/baselines.md), whole models in
onnxruntime-web (benchmarks/results/wasm.json).
"""

from __future__ import annotations

import pytest

LAYERS = 8


def conv(size):
    return lambda net: _repeat(net, lambda n: n.conv(size))


def pointwise(size):
    return lambda net: _repeat(net, lambda n: n.conv(size, 1))


def depthwise(size, kernel=3):
    return lambda net: _repeat(net, lambda n: n.conv(size, kernel, group=size))


def gemm(size):
    return lambda net: _repeat(net, lambda n: n.matmul(size))


def _repeat(net, layer):
    for _ in range(LAYERS):
        net = layer(net)
    return net


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [
        ("arm64-neon", 1.0, 1.25),
        ("arm64-dotprod", 2.0, 3.5),
        ("arm64-i8mm", 2.0, 3.5),
        ("x86-avx512-vnni", 2.5, 4.0),
        ("x86-avx-vnni", 2.0, 4.0),
        ("x86-avx2", 0.8, 2.0),
        ("wasm", 1.5, 2.1),
        ("cortex-m4", 2.5, 4.5),
        ("cortex-m7", 2.3, 4.5),
    ],
)
def test_wide_convolutions(gain, target, low, high):
    assert low <= gain(conv(64), (1, 64, 56, 56), target) <= high


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [
        ("arm64-neon", 0.8, 1.3),
        ("arm64-dotprod", 1.1, 1.4),
        ("x86-avx512-vnni", 0.3, 0.9),
        ("x86-avx2", 0.2, 0.9),
        ("wasm", 0.4, 0.8),
    ],
)
def test_depthwise(gain, target, low, high):
    assert low <= gain(depthwise(144), (1, 144, 28, 28), target) <= high


@pytest.mark.parametrize(
    ("target", "low", "high"),
    [
        ("arm64-neon", 1.0, 1.4),
        ("arm64-dotprod", 2.5, 3.5),
        ("arm64-i8mm", 5.0, 8.0),
        ("x86-avx512-vnni", 2.5, 4.0),
    ],
)
def test_matrix_products(gain, target, low, high):
    assert low <= gain(gemm(768), (128, 768), target) <= high


def test_few_channels_gain_little_on_arm(gain):
    narrow = gain(pointwise(16), (1, 16, 56, 56), "arm64-dotprod")
    wide = gain(pointwise(128), (1, 128, 28, 28), "arm64-dotprod")
    assert narrow < 1.2 < 1.7 < wide
    assert gain(pointwise(16), (1, 16, 56, 56), "arm64-neon") < 1


def test_i8mm_pays_in_matrix_products_only(gain):
    convolution = gain(conv(64), (1, 64, 56, 56), "arm64-i8mm")
    assert gain(gemm(768), (128, 768), "arm64-i8mm") > 1.5 * convolution


# Milliseconds of 8 layers on the Zen 4 machine: float32, u8s8 (reference/baselines.md).
MEASURED = {
    "pointwise-192-7": (pointwise(192), (1, 192, 7, 7), 0.306, 0.124),
    "pointwise-16-56": (pointwise(16), (1, 16, 56, 56), 0.135, 0.109),
    "conv-64-56": (conv(64), (1, 64, 56, 56), 17.5, 4.9),
    "depthwise-48-56": (depthwise(48), (1, 48, 56, 56), 0.361, 0.844),
    "depthwise-144-28": (depthwise(144), (1, 144, 28, 28), 0.358, 0.479),
    "depthwise5-96-14": (depthwise(96, 5), (1, 96, 14, 14), 0.165, 0.220),
}


@pytest.mark.parametrize("case", MEASURED)
def test_kernel_times_are_within_a_factor_of_1_7(net, estimate, case):
    build, shape, slow, fast = MEASURED[case]
    from graphopt.types import DType

    floats = estimate(build(net(shape)).done()).latency_ms.value
    integers = estimate(build(net(shape, DType.UINT8)).done()).latency_ms.value
    assert slow / 1.7 < floats < slow * 1.7
    assert fast / 1.7 < integers < fast * 1.7
