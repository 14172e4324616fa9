"""The model as a whole: totals, intervals, growth, and never failing."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.cost import CostModel, Roofline
from graphopt.cost.builtin import graphopt_register_cost_models
from graphopt.ir import parse
from graphopt.targets import builtin_targets
from graphopt.types import DType

TARGETS = {target.name: target for target in builtin_targets()}
HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>'


def graph(text: str):
    return parse(HEADER + text)


def test_the_builtin_model_follows_the_protocol():
    kinds = {kind.name: kind for kind in graphopt_register_cost_models()}
    assert "roofline" in kinds
    assert all(isinstance(kind(), CostModel) for kind in kinds.values())


def test_total_is_the_sum_of_kernels_and_the_interval_is_the_targets(net, estimate, targets):
    found = estimate(net((1, 16, 8, 8)).conv(16).done(), "arm64-neon")
    target = targets["arm64-neon"]
    total = target.compute.run_us + sum(k.latency_us for k in found.kernels)
    assert found.latency_ms.value == pytest.approx(total / 1e3, rel=1e-9)
    assert found.latency_ms.low == pytest.approx(found.latency_ms.value * 0.6, rel=1e-9)
    assert found.latency_ms.high == pytest.approx(found.latency_ms.value * 1.4, rel=1e-9)
    assert found.latency_ms.source == "estimated"
    assert "arm64-neon" in found.latency_ms.basis
    assert found.energy_mj is None


def test_basis_says_whether_peaks_were_measured(net, estimate):
    built = net((1, 16, 8, 8)).conv(16).done()
    assert "measured" in estimate(built, "x86-avx512-vnni").latency_ms.basis
    assert "published" in estimate(built, "x86-avx2").latency_ms.basis


@settings(max_examples=40, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    target=st.sampled_from(sorted(TARGETS)),
    size=st.sampled_from([4, 14, 28]),
)
def test_float_cost_grows_with_channels(net_type, channels, target, size):
    small, large = sorted(channels)
    if TARGETS[target].compute.layouts.get("float32") == "blocked":
        # Few channels, and other numbers than multiples of four, are executed in another layout.
        small, large = (16 + count // 4 * 4 for count in (small, large))

    def cost(count: int) -> float:
        built = net_type((1, 8, size, size)).conv(count).conv(8, 1).conv(8, group=8).done()
        return Roofline().estimate(built, TARGETS[target]).latency_ms.value

    assert cost(small) <= cost(large) * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    target=st.sampled_from(sorted(TARGETS)),
    size=st.sampled_from([4, 14, 28]),
)
def test_integer_cost_grows_with_aligned_channels(net_type, blocks, target, size):
    # Between multiples of 16 it does not: an aligned kernel may beat a smaller unaligned one.
    small, large = sorted(blocks)
    dtype = DType(DType.INT8 if target.startswith(("arm", "cortex")) else DType.UINT8)

    def cost(count: int) -> float:
        built = net_type((1, 16, size, size), dtype).conv(16 * count).conv(16, 1).done()
        return Roofline().estimate(built, TARGETS[target]).latency_ms.value

    assert cost(small) <= cost(large) * (1 + 1e-9)


def test_padding_channels_to_a_block_can_pay(net, estimate):
    def cost(channels: int) -> float:
        built = net((1, 16, 28, 28), DType.UINT8).conv(channels, 1).conv(16, 1).done()
        return estimate(built).latency_ms.value

    assert cost(20) < cost(18)


def test_custom_operators_cost_their_bytes():
    text = "g (float[1000000] x) => (float[1000000] y) { y = com.acme.Fancy(x) }"
    found = Roofline().estimate(graph(text), TARGETS["x86-avx2"])
    (kernel,) = found.kernels
    assert (kernel.kernel, kernel.kind) == ("Fancy", "other")
    assert found.latency_ms.value > 1e6 * 4 / 50e9 * 1e3
    assert "unknown shape" not in found.latency_ms.basis


def test_unknown_shapes_are_said_in_the_basis():
    text = "g (float[8] x) => (float y) { a = com.acme.Fancy(x) y = com.acme.Fancy(a) }"
    found = Roofline().estimate(graph(text), TARGETS["x86-avx2"])
    assert "1 tensors of unknown shape counted as small" in found.latency_ms.basis


def test_symbols_are_bound_and_named():
    text = "g (float[N,T,32] x) => (float[N,T,32] y) { y = Softmax(x) }"
    short = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert "N=1, T=64" in short.latency_ms.basis
    long = Roofline({"T": 512, "N": 2}).estimate(graph(text), TARGETS["arm64-neon"])
    assert "N=2, T=512" in long.latency_ms.basis
    assert long.peak_activation_bytes == 16 * short.peak_activation_bytes


def test_anonymous_dimensions_are_bound_too():
    text = "g (float[?,8] x) => (float[?,8] y) { y = Softmax(x) }"
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert found.peak_activation_bytes == 2 * 8 * 4


def test_weights_beyond_the_cache_come_from_main_memory(net):
    built = net((1, 512)).matmul(512).done()
    base = TARGETS["x86-avx512-vnni"]
    memory = dataclasses.replace(base.memory, cache_bytes=1000)
    fast = Roofline().estimate(built, base)
    slow = Roofline().estimate(built, dataclasses.replace(base, memory=memory))
    seconds = 512 * 512 * 4 / 19e9
    assert slow.kernels[0].latency_us == pytest.approx(seconds * 1e6, rel=0.05)
    assert fast.kernels[0].latency_us < slow.kernels[0].latency_us / 3


def test_branches_cost_as_much_as_the_dearer_one():
    text = """
    g (bool c, float[64,64] x) => (float[64,64] y)
    {
      y = If (c) <
        then_branch = t () => (float[64,64] a) { a = MatMul(x, x) },
        else_branch = e () => (float[64,64] b) { b = Identity(x) }
      >
    }"""
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert found.macs == 64**3
    assert found.kernels[0].kind == "other"
    assert found.kernels[0].latency_us > 64**3 / 6e9 * 1e6


RECURRENT = """
    g (float[SEQ,1,32] x) => (float[SEQ,1,1,64] y)
      <float[1,256,32] w = {WEIGHT}, float[1,256,64] r = {BACK}>
    { y = LSTM<hidden_size = 64>(x, w, r) }"""


@pytest.mark.parametrize("length", [1, 7])
def test_recurrent_networks_count_every_step(length):
    text = RECURRENT.replace("SEQ", str(length))
    text = text.replace("WEIGHT", ", ".join(["0"] * 256 * 32)).replace(
        "BACK", ", ".join(["0"] * 256 * 64)
    )
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert found.macs == length * 256 * (32 + 64)
    assert found.kernels[0].kind == "gemv"


@pytest.mark.parametrize(
    ("call", "macs"),
    [
        ('Einsum<equation = "ij,jk->ik">(a, b)', 4 * 8 * 16),
        ("Gemm<transA = 1>(c, b)", 4 * 8 * 16),
        ("MatMul(a, b)", 4 * 8 * 16),
        ("Add(a, a)", 0),
    ],
)
def test_products_are_counted(call, macs):
    text = f"g (float[4,8] a, float[8,16] b, float[8,4] c) => (float[4,16] y) {{ y = {call} }}"
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert found.macs == macs


def test_transposed_convolution_counts_every_input():
    text = (
        "g (float[1,4,5,5] x, float[4,6,3,3] w) => (float[1,6,7,7] y) { y = ConvTranspose(x, w) }"
    )
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert found.macs == 25 * 4 * 6 * 9


@pytest.mark.parametrize("op", ["MultiHeadAttention", "Attention"])
def test_attention_counts_its_two_products(op):
    text = f"""
    g (float[1,8,16] x, float[16,48] w) => (float[1,8,16] y)
    {{ y = com.microsoft.{op}<num_heads = 2>(x, w) }}"""
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    projected = 8 * 16 * 48 if op == "Attention" else 0
    assert found.macs == 2 * 8 * 8 * 16 + projected


def test_deep_graphs_are_estimated_in_seconds():
    nodes = " ".join(f"t{i + 1} = Abs(t{i})" for i in range(5000))
    text = f"g (float[4] t0) => (float[4] t5000) {{ {nodes} }}"
    found = Roofline().estimate(graph(text), TARGETS["arm64-neon"])
    assert len(found.kernels) == 5000
    assert found.peak_activation_bytes == 32


def test_every_builtin_target_prices_every_kind(net):
    for target in TARGETS.values():
        built = net((1, 8, 16, 16)).conv(8).operator("Sigmoid").pool_and_flatten().dense(4).done()
        found = Roofline().estimate(built, target)
        assert all(kernel.latency_us > 0 for kernel in found.kernels)
        assert found.latency_ms.low < found.latency_ms.value < found.latency_ms.high
