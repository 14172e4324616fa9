"""Energy: joules on measured boards, ratios elsewhere, and bounds that no constant can break."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.cost import Roofline
from graphopt.cost.base import EnergyParts
from graphopt.cost.energy import energy_parts, relative_energy
from graphopt.targets import builtin_targets
from graphopt.targets.base import Energy
from graphopt.types import DType

TARGET = next(t for t in builtin_targets() if t.name == "arm64-neon")


def test_a_measured_board_tells_joules(net, estimate, targets):
    found = estimate(net((1, 16, 8, 8), DType.INT8).conv(16).done(), "cortex-m4")
    watts = targets["cortex-m4"].energy.active_watts
    assert found.energy_mj.value == pytest.approx(watts * found.latency_ms.value, rel=1e-9)
    assert found.energy_mj.low == pytest.approx(watts * found.latency_ms.low, rel=1e-9)
    assert found.energy_parts.total_mj == found.energy_mj.value
    assert "measured power" in found.energy_mj.basis


def test_elsewhere_only_parts_are_known(net, estimate):
    found = estimate(net((1, 16, 8, 8)).conv(16).done(), "arm64-dotprod")
    assert found.energy_mj is None
    assert found.energy_parts.products_mj == pytest.approx(found.macs * 200e-9, rel=1e-9)
    assert found.energy_parts.memory_mj == 0.0  # it stays in the cache
    assert estimate(net((1, 4, 4, 4)).conv(4).done(), "wasm").energy_parts is None


def test_bytes_count_when_the_model_leaves_the_cache(net, targets):
    base = targets["arm64-dotprod"]
    small = dataclasses.replace(base, memory=dataclasses.replace(base.memory, cache_bytes=1000))
    found = Roofline().estimate(net((1, 512)).matmul(512).done(), small)
    moved = sum(k.bytes_moved for k in found.kernels)
    assert found.energy_parts.memory_mj == pytest.approx(40.0 * moved * 1e-9, rel=1e-9)


def test_integers_cost_less_than_floats(net, estimate):
    before = estimate(net((1, 64, 28, 28)).conv(64).conv(64).done(), "arm64-dotprod")
    after = estimate(net((1, 64, 28, 28), DType.INT8).conv(64).conv(64).done(), "arm64-dotprod")
    ratio = relative_energy(before, after)
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.value < 0.7
    assert "joules are not known" in ratio.basis


def test_nothing_known_is_no_ratio(net, estimate):
    found = estimate(net((1, 4, 4, 4)).conv(4).done(), "wasm")
    assert relative_energy(found, found) is None


sizes = st.floats(0.001, 100.0)


@given(old=st.tuples(sizes, sizes, sizes), new=st.tuples(sizes, sizes, sizes), scale=sizes)
def test_the_interval_holds_whatever_the_constants_are(net_type, old, new, scale):
    # Another set of constants scales the parts of both models alike: the interval does not move.
    empty = Roofline().estimate(net_type((1, 1)).dense(1).done(), TARGET)

    def ratio(weights):
        parts = [EnergyParts(*(p * w for p, w in zip(x, weights, strict=True))) for x in (old, new)]
        pair = [dataclasses.replace(empty, energy_parts=part) for part in parts]
        return relative_energy(*pair)

    first, second = ratio((1.0, 1.0, 1.0)), ratio((scale, 1.0, 1.0 / scale))
    assert second.low == pytest.approx(first.low, rel=1e-6)
    assert second.high == pytest.approx(first.high, rel=1e-6)
    assert first.low * (1 - 1e-6) <= second.value <= first.high * (1 + 1e-6)


def test_energy_without_figures_is_none(targets):
    silent = dataclasses.replace(targets["arm64-neon"], energy=None)
    assert energy_parts(1.0, (), silent, weights_in_cache=True) is None
    plain = dataclasses.replace(silent, energy=Energy(2.0))
    assert energy_parts(3.0, (), plain, weights_in_cache=True) == EnergyParts(6.0)
