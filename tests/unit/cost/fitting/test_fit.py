"""Profiles fitted to made-up devices whose true times are known."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from graphopt.cost.curves import curve_time, grid_of, model_us, speedup, threaded
from graphopt.cost.fitting import fit
from graphopt.cost.fitting.intervals import conformal
from graphopt.cost.fitting.threads import fit_threads
from graphopt.cost.profiling.measurements import KernelRow, Measurements, ModelRow
from graphopt.cost.signature import Signature
from graphopt.cost.terms import terms
from graphopt.cost.work import Product
from graphopt.errors import TargetError
from graphopt.targets import builtin_targets

BASE = next(t for t in builtin_targets() if t.name == "x86-avx512-vnni")
GRID = grid_of(BASE)
TRUE = {"call": 0.7, "mac": 17.0, "out": 0.05, "element": 0.02, "moved": 0.01}


def true_us(signature: Signature) -> float:
    sizes = terms(signature, GRID)
    return sum(cost * sizes.get(term, 0.0) for term, cost in TRUE.items())


def convolution(random: np.random.Generator) -> Signature:
    side, columns, inputs = (int(random.choice(c)) for c in ((7, 14, 28), (32, 64), (32, 64, 96)))
    window = int(random.choice((1, 9)))
    product = Product(side * side, columns, inputs, window)
    kind = "conv" if window > 1 else "pointwise"
    outputs = side * side * columns
    return Signature(
        "Conv", kind, "float32", "blocked", product, outputs, side * side * inputs * 4,
        columns * inputs * window * 4, outputs * 4, side,
    )  # fmt: skip


def addition(random: np.random.Generator) -> Signature:
    count = int(random.integers(100, 50_000))
    return Signature("Add", "elementwise", "float32", "plain", None, count, 8 * count, 0, 4 * count)


def measurements(seed: int = 0, noise: float = 0.03, outliers: int = 0) -> Measurements:
    random = np.random.default_rng(seed)
    made = [convolution(random) for _ in range(80)] + [addition(random) for _ in range(40)]
    factors = np.exp(noise * random.standard_normal(len(made)))
    factors[:outliers] *= 4
    rows = []
    for number, (signature, factor) in enumerate(zip(made, factors, strict=True)):
        us = true_us(signature) * float(factor)
        source = f"source/{number % 30}"
        two = us if us < 20 else us / 1.8
        rows += [KernelRow(signature, n, t, t, source=source) for n, t in ((1, us), (2, two))]
    models = []
    for number in range(12):
        kernels = tuple(convolution(random) for _ in range(20))
        us = 6.0 + sum(map(true_us, kernels)) * float(np.exp(0.02 * random.standard_normal()))
        models.append(ModelRow(f"m{number}", f"f{number}", "float32", 1, us, us, kernels))
    device = {"processor": "made up", "runtime": "none 1.0"}
    return Measurements(device, BASE.name, tuple(rows), tuple(models))


@pytest.fixture(scope="module")
def profile():
    return fit(measurements())


def test_new_kernels_are_predicted(profile):
    random = np.random.default_rng(7)
    for make in (convolution, addition):
        for signature in (make(random) for _ in range(40)):
            found = curve_time(signature, profile.curves, GRID)
            assert found is not None
            assert found.us == pytest.approx(true_us(signature), rel=0.15)


def test_outliers_change_little():
    found = fit(measurements(outliers=8))
    signature = convolution(np.random.default_rng(3))
    time = curve_time(signature, found.curves, GRID)
    assert time is not None
    assert time.us == pytest.approx(true_us(signature), rel=0.15)


def test_whole_models_give_the_cost_of_a_run(profile):
    assert profile.run_us == pytest.approx(6.0, abs=6.0)
    random = np.random.default_rng(11)
    kernels = [convolution(random) for _ in range(20)]
    us = 6.0 + sum(map(true_us, kernels))
    assert model_us(kernels, profile, GRID) == pytest.approx(us, rel=0.06)
    assert profile.low < 1 < profile.high


def test_coefficients_are_never_negative(profile):
    values = [c for curve in profile.curves.values() for c in curve.terms.values()]
    assert values
    assert min(values) >= 0


def test_a_larger_kernel_is_never_faster(profile):
    random = np.random.default_rng(5)
    for signature in (convolution(random) for _ in range(30)):
        assert signature.product is not None
        more = dataclasses.replace(signature.product, columns=signature.product.columns + 16)
        larger = dataclasses.replace(signature, product=more)
        small, large = (curve_time(s, profile.curves, GRID) for s in (signature, larger))
        assert small is not None
        assert large is not None
        assert large.us >= small.us


def test_intervals_hold_what_they_say():
    inside = total = 0
    for seed in range(3):
        found = fit(measurements(seed, noise=0.1))
        fresh = measurements(seed + 50, noise=0.1)
        for row in fresh.rows:
            time = curve_time(row.signature, found.curves, GRID)
            if row.threads == 1 and time is not None:
                inside += time.curve.low <= row.min_us / time.us <= time.curve.high
                total += 1
    assert inside / total >= 0.85


def test_threads(profile):
    assert profile.speedup["2"] == pytest.approx(1.8, abs=0.1)
    assert 5 <= profile.grain_us <= 20
    assert threaded(3.0, profile, 2) == 3.0
    assert threaded(1000.0, profile, 2) == pytest.approx(1000 / profile.speedup["2"])
    assert profile.speedup["2"] < speedup(profile, 4) < 4


def test_more_threads_never_make_a_longer_kernel_shorter_than_a_shorter_one(profile):
    times = [threaded(us, profile, 2) for us in np.linspace(0.1, 200, 2000)]
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(times))


def test_nothing_to_find_threads_from():
    assert fit_threads({2: [(1.0, 1.0)]}) == ({}, 0.0)


def test_conformal_ranks():
    ratios = [1 + 0.01 * k for k in range(-20, 21)]
    low, high = conformal(ratios)
    assert (low, high) == pytest.approx((0.81, 1.19))
    assert conformal([1.1]) == (0.5, 2.0)
    assert conformal([3.0]) == (0.5, 3.0)


def test_conformal_covers_new_samples():
    random = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        values = np.exp(0.2 * random.standard_normal(40))
        low, high = conformal(list(values[:39]))
        inside.append(low <= values[39] <= high)
    assert 0.86 <= np.mean(inside) <= 1.0


def test_no_kernels_is_an_error():
    with pytest.raises(TargetError) as error:
        fit(Measurements({}, BASE.name, ()))
    assert error.value.code == "G504"


def test_unknown_base_is_an_error():
    with pytest.raises(TargetError) as error:
        fit(dataclasses.replace(measurements(), base="no-such"))
    assert error.value.code == "G501"
