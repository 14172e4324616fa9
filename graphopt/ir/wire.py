"""The wire format of protobuf, as far as it is read and written without protobuf's own library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    Buffer = bytes | mmap.mmap

VARINT, LENGTH = 0, 2
_FIXED = {1: 8, 5: 4}
"""Bytes of the wire types of fixed size."""


@dataclass(frozen=True)
class Field:
    """One field of a message: where it and its contents lie in the buffer.

    Args:
        number: of the field.
        start: first byte of its key.
        content: first byte of its contents.
        end: first byte after it.
        value: of a varint; for others the length of the contents.
        wire: wire type.
    """

    number: int
    start: int
    content: int
    end: int
    value: int
    wire: int


def fields(data: Buffer, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of a message that lies between two positions.

    Raises:
        ValueError: the message is cut short, or none.
    """
    position = start
    while position < end:
        begin = position
        key, position = _varint(data, position, end)
        wire = key & 7
        if wire in _FIXED:
            value = _FIXED[wire]
        elif wire in {VARINT, LENGTH}:
            value, position = _varint(data, position, end)
        else:
            raise ValueError(f"wire type {wire}")
        content = position
        position += 0 if wire == VARINT else value
        if position > end:
            raise ValueError("cut short")
        yield Field(key >> 3, begin, content, position, value, wire)


def _varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    found = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, position
        shift += 7
    raise ValueError("cut short")


def varint(number: int) -> bytes:
    """Return a number, 0 or more, as it is written."""
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def prefix(number: int, size: int) -> bytes:
    """Return what stands before the contents of a field of variable length."""
    return varint(number << 3 | LENGTH) + varint(size)
