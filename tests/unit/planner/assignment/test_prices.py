"""Prices of borders are what the cost model counts between two kernels."""

from __future__ import annotations

import pytest

from graphopt.planner.assignment.prices import BorderPrices
from graphopt.testing import context, graph


@pytest.mark.parametrize("target", ["x86-avx512-vnni", "arm", "cortex-m7"])
def test_prices_grow_with_the_tensor_and_are_asked_once(target: str) -> None:
    given = context(target=target)
    asked = 0

    class Counted:
        name = "counted"

        def estimate(self, made: object, where: object) -> object:
            nonlocal asked
            asked += 1
            return given.cost.estimate(made, where)  # type: ignore[arg-type]

    prices = BorderPrices(Counted(), given.target)  # type: ignore[arg-type]
    small, large = (1, 16, 8, 8), (1, 16, 64, 64)
    assert 0 < prices.quantize(small) < prices.quantize(large)
    assert 0 < prices.dequantize(small) < prices.dequantize(large)
    assert 0 < prices.quantize((1, 64)) <= prices.quantize((64, 64))
    assert prices.add(large) > 0
    before = asked
    assert prices.quantize(large) == prices.quantize(large)
    assert asked == before


def test_a_layout_between_the_two_is_part_of_the_price() -> None:
    # Float convolutions of x86 keep blocks of channels, integer ones the channels last.
    given = context(target="x86-avx512-vnni")
    image, matrix = (1, 16, 16, 16), (16, 256)
    prices = BorderPrices(given.cost, given.target)
    assert prices.quantize(image) > 1.5 * prices.quantize(matrix)


def test_a_pooling_between_the_two_counts_what_it_takes_more() -> None:
    model = graph(
        """m (float[1, 16, 32, 32] x) => (float[1, 16, 16, 16] y) {
      [pool] y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }"""
    )
    (pool,) = model.nodes("MaxPool")
    given = context(target="x86-avx512-vnni")
    prices = BorderPrices(given.cost, given.target)
    shape = (1, 16, 32, 32)
    assert prices.quantize(shape, pool) != prices.quantize(shape)
    assert prices.dequantize(shape, pool) > 0
