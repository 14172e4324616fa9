"""Codes of a few bits side by side in bytes, the first in the lowest bits."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def pack_bits(codes: Array, bits: int) -> Array:
    """Return uint8 [..., ceil(n * bits / 8)] with the codes of the last axis packed.

    The layout of the operators MatMulNBits and GatherBlockQuantized (onnxruntime, ContribOperators)
    and of ONNX's 2- and 4-bit tensors: the first code lies in the lowest bits; the last byte is
    filled with zeros.

    Args:
        codes: uint8 [..., n], each below 2^bits.
        bits: 2, 4 or 8.
    """
    if bits == 8:
        return np.ascontiguousarray(codes)
    per_byte = 8 // bits
    spare = -codes.shape[-1] % per_byte
    if spare:
        codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], spare), np.uint8)], axis=-1)
    packed = codes[..., ::per_byte].copy()
    for place in range(1, per_byte):
        packed |= codes[..., place::per_byte] << np.uint8(place * bits)
    return packed


def unpack_bits(packed: Array, bits: int, count: int) -> Array:
    """Return the first ``count`` codes of the last axis; the inverse of ``pack_bits``."""
    if bits == 8:
        return packed[..., :count]
    places = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    codes = (packed[..., None] >> places) & np.uint8((1 << bits) - 1)
    return np.asarray(codes.reshape(*packed.shape[:-1], -1)[..., :count])
