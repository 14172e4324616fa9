"""Pairs of weights that saturate: which are neighbours, and which operators add them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from graphopt import ir
from graphopt.analysis.quantization.hazards import saturating_outputs
from graphopt.analysis.saturation import (
    PAIR_LIMIT,
    adds_pairs,
    from_reduction_rows,
    largest_pairs,
    pairs_exceed,
    reduction_rows,
    scale_needed,
)
from graphopt.testing import graph

Array = np.ndarray[Any, Any]


def _vpmaddubsw(activations: Array, weights: Array, first: int) -> int:
    """Add products in pairs that start at ``first``, each sum saturated to 16 bits."""
    products = [0] * first + [
        int(x) * int(w) for x, w in zip(activations, weights, strict=True)
    ]  # a zero in front moves every pair by one
    products += [0] * (len(products) % 2)
    return sum(
        max(-32768, min(32767, a + b)) for a, b in zip(products[::2], products[1::2], strict=True)
    )


@given(
    arrays(np.int8, st.integers(1, 9), elements=st.integers(-127, 127)),
    st.integers(0, 1),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_rows_that_do_not_exceed_are_exact_on_any_input(
    row: Array, first: int, data: st.DataObject
) -> None:
    found = bool(pairs_exceed(row[None])[0])
    worst = [np.where(row * sign > 0, 255, 0) for sign in (1, -1)]
    random = data.draw(arrays(np.uint8, row.shape))
    wrong = any(
        _vpmaddubsw(x, row, parity) != int(x.astype(np.int64) @ row.astype(np.int64))
        for x in worst
        for parity in (0, 1)
    )
    assert found == wrong
    if not found:
        assert _vpmaddubsw(random, row, first) == int(random.astype(np.int64) @ row)


def test_the_limit_is_the_last_sum_that_fits() -> None:
    assert 255 * PAIR_LIMIT <= 32767 < 255 * (PAIR_LIMIT + 1)
    assert -255 * PAIR_LIMIT >= -32768 > -255 * (PAIR_LIMIT + 1)


@pytest.mark.parametrize("shape", [(3, 4, 3, 3), (2, 5, 4), (2, 1, 3, 3), (3, 7)])
def test_the_order_is_kernel_positions_then_channels(shape: tuple[int, ...]) -> None:
    weight = np.arange(np.prod(shape)).reshape(shape)
    rows = reduction_rows(weight, 0)
    wanted = [
        [weight[(output, channel, *position)] for position in np.ndindex(*shape[2:])
         for channel in range(shape[1])]
        for output in range(shape[0])
    ]  # fmt: skip
    assert rows.tolist() == wanted
    assert np.array_equal(from_reduction_rows(rows, shape), weight)


def test_columns_of_matrices_are_their_outputs() -> None:
    matrix = np.arange(6).reshape(3, 2)
    assert reduction_rows(matrix, 1).tolist() == [[0, 2, 4], [1, 3, 5]]
    assert reduction_rows(matrix[None], 2).tolist() == [[0, 2, 4], [1, 3, 5]]


@pytest.mark.parametrize("shape", [(2, 0), (0, 3), (2, 1)])
def test_rows_without_pairs(shape: tuple[int, int]) -> None:
    rows = np.full(shape, 100.0)
    assert largest_pairs(rows).tolist() == [0.0] * shape[0]
    assert not pairs_exceed(rows).any()
    assert scale_needed(rows).tolist() == [0.0] * shape[0]


def test_weights_of_opposite_sign_need_no_scale() -> None:
    assert scale_needed(np.array([[1.0, -1.0, 0.0, 1.0], [1.0, 0.28, -2.0, -0.56]])) == (
        pytest.approx([0.0, 0.02])
    )


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("Conv (x, w)", True),
        ("Conv <group = 4> (x, one)", False),  # depthwise
        ("Conv <group = 2> (two, one)", True),  # two outputs per channel: a product
        ("Conv <group = 1> (single, one)", True),
        ("ConvTranspose (x, w)", False),
        ("MatMul (x, m)", True),
        ("Add (x, m)", False),
    ],
)
def test_depthwise_kernels_add_in_32_bits(operator: str, expected: bool) -> None:
    model = graph(
        "m (float[1, 4, 4, 4] x, float[1, 2, 4, 4] two, float[1, 1, 4, 4] single) => (float y)"
        " <float[4, 4, 3, 3] w, float[4, 1, 3, 3] one, float[4, 4] m>"
        f" {{ y = {operator} }}"
    )
    assert adds_pairs(model.nodes()[0]) is expected


@pytest.mark.parametrize(
    ("activation", "group", "channels", "expected"),
    [("uint8", 1, 4, (3, 4)), ("int8", 1, 4, None), ("uint16", 1, 4, None), ("uint8", 4, 1, None)],
)
def test_doctor_counts_what_a_kernel_adds_in_pairs(
    activation: str, group: int, channels: int, expected: tuple[int, int] | None
) -> None:
    weight = np.zeros((4, channels, 1, 3), np.int8)
    weight[:3, 0, 0, 1:] = 100
    if channels > 1:
        weight[:3, 1] = 100  # beside the first channel
        weight[3, ::2] = 127  # beside none
    model = graph(
        f"m (float[1, 4, 4, 4] x) => (float y) <float s = {{0.1}}, {activation} z, "
        f"int8[4, {channels}, 1, 3] w, int8 i = {{0}}> {{"
        " q = QuantizeLinear (x, s, z) a = DequantizeLinear (q, s, z)"
        f" d = DequantizeLinear (w, s, i) y = Conv <group = {group}> (a, d) }}",
        opset=21,
        w=weight,
        z=np.array(0, activation),
    )
    ir.infer_shapes(model)
    assert saturating_outputs(model.nodes("Conv")[0]) == expected
