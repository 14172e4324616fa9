"""Estimates from a device's profile."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from graphopt import ir
from graphopt.cost import Roofline
from graphopt.cost.curves import grid_of, settled
from graphopt.cost.kernels import group_kernels
from graphopt.cost.profiled import Profiled
from graphopt.cost.signature import signature_of
from graphopt.registry import Registry
from graphopt.targets import builtin_targets
from graphopt.targets.profile import DeviceProfile, KernelCurve
from graphopt.targets.profile_file import profile_json, read_profile

BASE = next(t for t in builtin_targets() if t.name == "x86-avx512-vnni")


def target(curves=None, **options):
    profile = DeviceProfile(
        device="made up", base=BASE.name, runtime="onnxruntime 0", threads=1, governor="",
        curves=curves or {}, **options,
    )  # fmt: skip
    return dataclasses.replace(BASE, profile=profile, cost_model="profiled")


@pytest.fixture
def graph(net):
    made = net((1, 16, 16, 16)).conv(16).conv(32).pool_and_flatten().dense(10).done()
    ir.infer_shapes(made)
    return made


def test_is_registered():
    assert Registry().cost_model_class("profiled") is Profiled


def test_without_a_profile_it_is_the_roofline(graph):
    assert Profiled().estimate(graph, BASE) == Roofline().estimate(graph, BASE)


def test_without_curves_every_kernel_has_the_time_of_the_roofline(graph):
    ours, theirs = (m.estimate(graph, target()) for m in (Profiled(), Roofline()))
    times = [{k.nodes: k.latency_us for k in e.kernels if k.nodes} for e in (ours, theirs)]
    assert times[0] == pytest.approx(times[1])
    assert ours.peak_activation_bytes == theirs.peak_activation_bytes
    assert "100% of the time" in ours.latency_ms.basis


def test_a_curve_prices_its_class(graph):
    curves = {"float32.conv": KernelCurve({"call": 5.0, "mac": 100.0}, points=9)}
    found = Profiled().estimate(graph, target(curves, run_us=3.0))
    times = [k.latency_us for k in found.kernels if k.kind == "conv"]
    assert times == pytest.approx([5 + 100 * 256 * c * 16 * 9 / 1e6 for c in (16, 32)])
    total = sum(k.latency_us for k in found.kernels) + 3.0
    assert found.latency_ms.value == pytest.approx(total / 1e3)
    assert f"2 of {len(found.kernels)} kernels from the profile's curves" in found.latency_ms.basis


def test_interval_is_that_of_whole_models_where_all_is_measured(graph):
    curves = {
        f"float32.{kind}": KernelCurve({"call": 1.0})
        for kind in ("conv", "pool", "gemv", "movement", "gemm", "elementwise")
    }
    found = Profiled().estimate(graph, target(curves, low=0.9, high=1.2)).latency_ms
    assert found.low == pytest.approx(0.9 * found.value)
    assert found.high == pytest.approx(1.2 * found.value)


def test_threads_make_long_kernels_faster(graph):
    curves = {"float32.conv": KernelCurve({"call": 100.0})}
    device = target(curves, speedup={"2": 2.0}, grain_us=10.0)
    one, two = (Profiled(threads=n).estimate(graph, device) for n in (1, 2))
    assert [k.latency_us for k in one.kernels if k.kind == "conv"] == [100.0, 100.0]
    assert [k.latency_us for k in two.kernels if k.kind == "conv"] == [50.0, 50.0]
    assert "2 threads" in two.latency_ms.basis


def test_more_channels_never_take_less(net):
    curves = {"float32.conv": KernelCurve({"call": 1.0, "mac": 17.0, "out": 0.1, "moved": 0.01})}
    times = []
    for channels in range(8, 80, 8):
        made = net((1, 16, 16, 16)).conv(channels).conv(16).done()
        ir.infer_shapes(made)
        times.append(Profiled().estimate(made, target(curves)).latency_ms.value)
    assert times == sorted(times)


def test_a_model_that_takes_longer_finds_less_in_a_shared_cache(graph):
    curves = {"float32.any": KernelCurve({"call": 50.0, "cold_call": 10.0}, points=9)}
    curves |= {f"float32.{k}": curves["float32.any"] for k in ("conv", "gemv", "pool", "movement")}
    kept, shared = (
        Profiled().estimate(graph, target(curves, keep_us=us)).latency_ms.value
        for us in (0.0, 1e3)
    )  # fmt: skip
    count = sum(k.latency_us >= 50 for k in Profiled().estimate(graph, target(curves)).kernels)
    assert kept < shared < kept + count * 10e-3


def test_time_and_what_is_forgotten_in_it_settle(graph):
    curves = {"float32.any": KernelCurve({"call": 100.0, "cold_call": 50.0}, points=9)}
    profile = target(curves, keep_us=1e3).profile
    grid = grid_of(target(curves, keep_us=1e3))
    kernels = [signature_of(k) for k in group_kernels(graph, BASE)]
    times, total = settled(kernels, profile, grid)
    assert total == pytest.approx(sum(times))
    cold = 1 - math.exp(-total / 1e3)
    assert total == pytest.approx(len(kernels) * (100 + 50 * cold), rel=2e-3)


def test_profiles_of_before_forget_nothing(tmp_path):
    path = tmp_path / "old.json"
    plain = json.loads(profile_json(target({}, keep_us=2e3).profile))
    assert read_profile_of(path, plain).keep_us == 2e3
    del plain["keep_us"]
    assert read_profile_of(path, plain).keep_us == 0.0


def read_profile_of(path, plain):
    path.write_text(json.dumps(plain))
    return read_profile(path)
