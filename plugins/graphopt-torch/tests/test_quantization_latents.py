"""Latent weights and the integers that they stand for, there and back, in every layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from graphopt_torch.quantization.latents import BiasLatent, IntegerLatent, separated, starting_steps
from graphopt_torch.quantization.stored_integers import StoredIntegers, bounds, spread
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.analysis.saturation import PAIR_LIMIT, pairs_exceed, reduction_rows
from graphopt.ir import Tensor
from graphopt.types import DType

Array = np.ndarray[Any, Any]

SCALES = st.floats(1e-6, 1e3).map(np.float32)
BITS = {DType.INT8: 8, DType.UINT8: 8, DType.INT4: 4, DType.UINT4: 4}


@st.composite
def stored(draw: st.DrawFn) -> tuple[StoredIntegers, Tensor]:
    """A weight of any type, with one scale, scales of an axis, or blocks along it."""
    dtype = draw(st.sampled_from(list(BITS)))
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    axis = draw(st.sampled_from([0, 1]))
    block = draw(st.sampled_from([0, 0, 2, 4]))
    half = 1 << (BITS[dtype] - 1)
    low, high = (0, 2 * half - 1) if dtype.name.startswith("U") else (-half, half - 1)
    seed = draw(st.integers(0, 1 << 30))
    random = np.random.default_rng(seed)
    integers = random.integers(low, high + 1, (rows, columns))
    scale = float(draw(SCALES)) * draw(st.sampled_from([1, -1]))
    size = integers.shape[axis]
    if block:
        shape = tuple(-(-n // block) if i == axis else n for i, n in enumerate(integers.shape))
    else:
        shape = draw(st.sampled_from([(), (size,)]))
    scales = np.asarray(scale * random.uniform(0.5, 2.0, shape), dtype=np.float32)
    zero = random.integers(low, high + 1, shape) if dtype.name.startswith("U") else np.zeros(shape)
    bottom, top = bounds(integers, dtype)
    facts = StoredIntegers(
        "w", "s", "weights", integers, scales,
        spread(zero.astype(np.float32), integers, axis, block),
        axis, block, bottom, top, given=("w",),
    )  # fmt: skip
    return facts, Tensor.from_array(integers, dtype)


@settings(deadline=None)
@given(stored())
def test_nothing_learned_is_nothing_changed(made: tuple[StoredIntegers, Tensor]) -> None:
    facts, tensor = made
    latent = IntegerLatent(facts, None, "cpu")
    scales = torch.from_numpy(np.array(facts.scales))
    assert np.array_equal(latent.array(scales), facts.integers)
    back = facts.tensor(latent.array(scales), tensor)
    assert back.dtype is tensor.dtype
    assert np.array_equal(back.array(), tensor.array())
    assert b"".join(back.chunks()) == b"".join(tensor.chunks())


@settings(deadline=None)
@given(stored(), st.integers(0, 1 << 30))
def test_starts_at_the_float_weight_inside_of_the_cell(
    made: tuple[StoredIntegers, Tensor], seed: int
) -> None:
    facts, _ = made
    random = np.random.default_rng(seed)
    scales = spread(facts.scales.astype(np.float64), facts.integers, facts.axis, facts.block)
    steps = facts.integers - facts.zero + random.uniform(-2, 2, facts.integers.shape)
    latent = IntegerLatent(facts, steps * scales, "cpu")
    assert np.array_equal(latent.array(torch.from_numpy(facts.scales)), facts.integers)
    start = starting_steps(facts, steps * scales)
    near = np.abs(steps - (facts.integers - facts.zero)) < 0.49
    inside = (steps >= facts.low - facts.zero) & (steps <= facts.high - facts.zero)
    np.testing.assert_allclose(start[near & inside], steps[near & inside], rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.integers(1, 8),
    st.sampled_from([(1, 1), (3,), (3, 3), ()]),
    st.booleans(),
)
def test_no_pair_exceeds_16_bits(
    seed: int, channels: int, kernel: tuple[int, ...], by_columns: bool
) -> None:
    random = np.random.default_rng(seed)
    integers = random.integers(-127, 128, (4, channels, *kernel))
    axis = 1 if by_columns and not kernel else 0
    found = separated(torch.from_numpy(integers).float(), axis).numpy()
    assert not pairs_exceed(reduction_rows(found.astype(np.int64), axis)).any()
    assert (np.abs(found) <= np.abs(integers)).all()
    rows = reduction_rows(integers, axis)
    if not pairs_exceed(rows).any():
        assert np.array_equal(found, integers)


def test_gradients_of_a_pair_pass_towards_zero_only() -> None:
    weight = torch.tensor([[100.0, 90.0, 5.0]], requires_grad=True)
    made = separated(weight, 0)
    assert (made[0, 0] + made[0, 1]).abs() <= PAIR_LIMIT
    made.backward(torch.tensor([[1.0, -1.0, -1.0]]))  # descent lowers the first, raises the second
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1.0, 0.0, -1.0]]


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=1, max_size=9),
    st.floats(1e-12, 1e-2).map(np.float32),
)
def test_biases_of_32_bits_come_back(integers: list[int], scale: np.float32) -> None:
    held = np.array(integers)
    facts = StoredIntegers(
        "b", "s", "biases", held, np.full(len(held), scale), np.zeros(1, np.float32),
        0, 0, *bounds(held, DType.INT32), given=("b",),
    )  # fmt: skip
    latent = BiasLatent(facts, "cpu")
    assert np.array_equal(latent.array(torch.full((len(held),), float(scale))), held)


@pytest.mark.parametrize("bits", [2, 4, 8])
@settings(deadline=None)
@given(seed=st.integers(0, 1 << 30), columns=st.integers(1, 70), rows=st.integers(1, 5))
def test_packed_codes_come_back(bits: int, seed: int, columns: int, rows: int) -> None:
    from graphopt.passes.quantize.weight_only.packing import pack_bits

    random = np.random.default_rng(seed)
    block = 16
    count = -(-columns // block)
    codes = random.integers(0, 1 << bits, (rows, count, block)).astype(np.uint8)
    tensor = Tensor.from_array(pack_bits(codes, bits))
    facts = StoredIntegers(
        "B", "s", "weights", codes.reshape(rows, -1).astype(np.int64),
        random.uniform(-1, 1, (rows, count)).astype(np.float32),
        np.full((rows, count * block), 1 << (bits - 1), np.float32),
        1, block, 0, (1 << bits) - 1, "blocks", ("B#dequantized",), bits, columns,
    )  # fmt: skip
    latent = IntegerLatent(facts, None, "cpu")
    scales = torch.from_numpy(facts.scales)
    assert np.array_equal(latent.array(scales), facts.integers)
    back = facts.tensor(latent.array(scales), tensor)
    assert np.array_equal(back.array(), tensor.array())
    wanted = (facts.integers - facts.zero) * np.repeat(facts.scales, block, axis=1)
    matrix = latent.values(scales)["B#dequantized"].detach().numpy()
    np.testing.assert_allclose(matrix, wanted[:, :columns], rtol=1e-6)


def test_bounds_are_told_by_what_is_there() -> None:
    assert bounds(np.array([-127, 127]), DType.INT8) == (-127, 127)
    assert bounds(np.array([-128, 3]), DType.INT8) == (-128, 127)
    assert bounds(np.array([-64, 60]), DType.INT8) == (-64, 64)
    assert bounds(np.array([-8, 7]), DType.INT4) == (-8, 7)
    assert bounds(np.array([-7, 7]), DType.INT4) == (-7, 7)
    assert bounds(np.array([3]), DType.UINT8) == (0, 255)


def test_weights_pruned_to_zero_stay() -> None:
    facts = StoredIntegers(
        "w", "s", "weights", np.array([[0, 5], [0, -7]]), np.array([0.1, 0.2], np.float32),
        np.zeros((1, 1), np.float32), 0, 0, -127, 127, given=("w",),
    )  # fmt: skip
    latent = IntegerLatent(facts, np.array([[0.0, 0.51], [0.01, -1.4]]), "cpu")
    with torch.no_grad():
        latent.parameter += 1.0
    found = latent.array(torch.from_numpy(facts.scales))
    assert found.tolist() == [[0, 15], [5, -2]]
