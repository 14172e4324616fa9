"""Codes side by side in bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.passes.quantize.weight_only.packing import pack_bits, unpack_bits


def test_the_first_code_lies_in_the_lowest_bits() -> None:
    codes = np.array([1, 2, 15], np.uint8)
    assert pack_bits(codes, 4).tolist() == [0x21, 0x0F]
    assert pack_bits(np.array([1, 2, 3, 0, 2], np.uint8), 2).tolist() == [0b00_11_10_01, 0b10]
    assert pack_bits(codes, 8).tolist() == [1, 2, 15]


@given(bits=st.sampled_from([2, 4, 8]), data=st.data())
def test_unpacking_returns_the_codes(bits: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    array = np.array([codes, codes[::-1]], np.uint8)
    packed = pack_bits(array, bits)
    assert packed.shape == (2, -(-len(codes) * bits // 8))
    np.testing.assert_array_equal(unpack_bits(packed, bits, len(codes)), array)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packing_leaves_its_input_alone(bits: int) -> None:
    codes = np.arange(8, dtype=np.uint8) % 4
    kept = codes.copy()
    pack_bits(codes, bits)[...] = 0 if bits < 8 else pack_bits(codes, bits)
    np.testing.assert_array_equal(codes, kept)
