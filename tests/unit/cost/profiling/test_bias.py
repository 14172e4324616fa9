"""What the profiler adds, from short kernels and from whole models."""

from __future__ import annotations

import pytest

from graphopt.cost.profiling.bias import Bias, find_bias

MODELS = [
    (0.9 * own + 3.0, own + 2.5 * count, count)
    for own, count in ((100.0, 10), (400.0, 60), (2000.0, 25), (9000.0, 80), (50.0, 30))
]
"""Clean and profiled time, kernels: each takes 2.5 us longer, and all are slower by 1 / 0.9."""


@pytest.mark.parametrize(
    "kernels", [(), [(0.3, 2.8), (0.5, 3.0), (1.0, 3.5), (2.0, 4.5), (400.0, 700.0)]]
)
def test_scale_kernel_and_run_are_found(kernels: list[tuple[float, float]]) -> None:
    found = find_bias(MODELS, kernels)
    assert found.scale == pytest.approx(0.9, rel=1e-4)
    assert found.kernel_us == pytest.approx(2.5, rel=1e-4)
    assert found.run_us == pytest.approx(3.0, rel=1e-3)
    assert found.corrected(12.5) == pytest.approx(9.0, rel=1e-4)


def test_short_kernels_tell_what_is_added_without_models() -> None:
    assert find_bias((), [(0.3, 2.8)] * 4) == Bias(kernel_us=2.5)
    assert find_bias((), [(0.3, 2.8)] * 3) == Bias()


def test_a_part_of_a_short_kernel_is_left() -> None:
    assert Bias(1.0, 2.5, 0.0).corrected(2.0) == pytest.approx(0.2)
