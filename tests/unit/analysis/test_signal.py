"""Running statistics against the same figures computed at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.analysis.reasons import Evidence, TensorUse, reason
from graphopt.analysis.signal import Codes, CodeUse, Distribution, Noise
from graphopt.analysis.weights import StoredWeight, weight_facts

U8 = Codes(scale=0.1, zero=10, low=0, high=255)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([None, 1, -1]))
def test_noise_over_batches_is_that_over_all(seed: int, batches: int, axis: int | None) -> None:
    random = np.random.default_rng(seed)
    pairs = [(r := random.normal(size=(2, 3, 4)), r + random.normal(size=r.shape) * 0.01)
             for _ in range(batches)]  # fmt: skip
    noise = Noise(axis)
    for reference, found in pairs:
        noise.update(reference.astype(np.float32), found.astype(np.float32))
    wanted = np.concatenate([r for r, _ in pairs])
    error = wanted - np.concatenate([f for _, f in pairs])
    assert noise.snr_db == pytest.approx(
        10 * np.log10((wanted**2).sum() / (error**2).sum()), abs=1e-2
    )
    if axis is not None:
        others = tuple(i for i in range(3) if i != axis % 3)
        ratios = 10 * np.log10((wanted**2).sum(others) / (error**2).sum(others))
        assert noise.channel_snr_db == pytest.approx(ratios.mean(), abs=1e-2)


def test_noise_of_other_shapes_infinities_and_silence() -> None:
    other = Noise()
    other.update(np.ones(3), np.ones(4))
    assert other.snr_db == -math.inf
    masked = Noise()
    masked.update(np.array([1.0, -np.inf]), np.array([1.0, -np.inf]))
    assert masked.snr_db == math.inf
    lost = Noise()
    lost.update(np.ones(2), np.array([1.0, np.nan]))
    assert lost.snr_db == -math.inf


def test_one_loud_channel_does_not_hide_that_the_others_are_lost() -> None:
    reference = np.random.default_rng(0).normal(size=(1, 8, 64))
    reference[:, 3] *= 1000
    noise = Noise(1)
    noise.update(reference, reference + 1.0)
    assert noise.snr_db > 45
    assert noise.channel_snr_db < 15


@given(st.lists(st.integers(1, 300), min_size=1, max_size=4), st.integers(0, 999))
def test_distribution_over_batches_is_that_over_all(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [random.standard_t(4, size) * 3 + 1 for size in sizes]
    found, values = Distribution(), np.concatenate(parts)
    for part in parts:
        found.update(part)
    assert (found.low, found.high, found.count) == (values.min(), values.max(), values.size)
    if values.size > 3:
        off = values - values.mean()
        wanted = (off**4).mean() / (off**2).mean() ** 2 - 3
        assert found.kurtosis == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    usual = np.sort(np.abs(values))[math.ceil(0.999 * values.size) - 1]
    exact = np.abs(values).max() / usual
    # A bin is a sixteenth of an octave: 2 ** (1 / 16) is 1.0443.
    assert exact / 1.0444 <= found.outlier_ratio <= exact * 1.0001


def test_codes_that_are_used_and_values_that_are_clipped() -> None:
    use = CodeUse(U8)
    use.update(np.array([-2.0, -1.0, 0.0, 24.5, 30.0, 0.1]))
    assert use.clipped == pytest.approx(2 / 6)
    even = CodeUse(Codes(1.0, 0, 0, 15))
    even.update(np.repeat(np.arange(1, 9), 3))
    assert even.effective_bits == pytest.approx(3.0)


def test_weight_with_an_outlier_and_channels_that_share_a_scale() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 16, 3, 3)) * 0.1
    weight[3, 0, 0, 0] = 50.0
    stored = StoredWeight(np.rint(weight / 0.4).astype(np.int8), np.array(0.4), np.array(0))
    facts = weight_facts(weight, 0, stored)
    assert facts.peak == 50
    assert facts.outlier_ratio > 100
    assert facts.channel_spread > 100
    assert facts.snr_db == pytest.approx(
        10 * np.log10((weight**2).sum() / ((weight - stored.values()) ** 2).sum())
    )
    assert facts.effective_bits is not None
    assert facts.effective_bits < 1
    said = reason(Evidence(20.0, 1.0, weight=facts, shares_scale=True))
    assert said.startswith("a weight of magnitude 50 is an outlier")
    assert "one weight scale for channels of unequal size" in said


def test_saturation_is_of_neighbours_of_one_sign() -> None:
    integers = np.zeros((5, 4), np.int8)
    integers[0, :2] = 127, 2
    integers[1, :2] = 64, -65
    integers[2, 1:3] = -64, -64
    integers[3, ::2] = 127
    integers[4, 2:] = -64, -65
    stored = StoredWeight(integers, np.ones(()), np.zeros(()))
    found = weight_facts(integers.astype(float), 0, stored).saturating
    assert found == pytest.approx(2 / 5)  # 129 * 255 = 32,895 twice; 128 * 255 = 32,640
    assert weight_facts(integers.astype(float), 0, stored, pairs=False).saturating == 0


def test_reasons_name_clipping_tails_and_idle_codes() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    values[0] = 100.0
    tails, use = Distribution(), CodeUse(Codes(100 / 255, 0, 0, 255))
    tails.update(values)
    use.update(values)
    assert "peaks at 100" in reason(Evidence(20.0, 20.0, (TensorUse("x", tails, use),)))
    tight = CodeUse(Codes(0.01, 0, 0, 255))
    tight.update(values)
    said = reason(Evidence(20.0, 20.0, output=TensorUse("y", tails, tight)))
    assert said.startswith("51 % of its output `y` are clipped") or "are clipped" in said
    assert reason(Evidence(60.0, 60.0)) == "as accurate as 8 bits can be"
    assert "no single cause" in reason(Evidence(20.0, 20.0))
