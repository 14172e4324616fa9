"""Arrays of one input in memory: one byte for each value where few values occur, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    Array = np.ndarray[Any, Any]

_MOST_VALUES = 256
_CHANNELS = (1, 3, 4)
"""Numbers of channels of pictures; the channels are normalised apart, so each has its values."""
_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def channel_axis(shape: Sequence[int]) -> int | None:
    """Return the axis that channels are on in an array with a batch axis; None for no picture.

    Axis 1 or the last one of four, whichever has 1, 3 or 4 entries; axis 1 where both do.
    """
    if len(shape) != 4:
        return None
    return next((axis for axis in (1, 3) if shape[axis] in _CHANNELS), None)


class Storage:
    """The arrays of one input, by number; they come back with the bits that they came with.

    Pictures that were made of bytes, whatever has scaled and shifted them since, have at most 256
    values in each channel. While that holds, a byte stands for each value; from the first array
    on with which it does not, all are kept as they are.
    """

    def __init__(self) -> None:
        self.nbytes = 0
        self._kept: list[Array] = []
        self._palette: _Palette | None = None
        self._plain = False

    def __len__(self) -> int:
        return len(self._kept)

    def append(self, values: Array) -> None:
        """Keep an array."""
        values = np.ascontiguousarray(values)
        if not self._kept and not self._plain:
            self._palette = _Palette.of(values)
        coded = self._palette.code(values) if self._palette is not None else None
        if coded is None and self._palette is not None:
            self._decode_all()
        self._kept.append(values if coded is None else coded)
        self.nbytes += self._kept[-1].nbytes

    def keep(self, positions: Sequence[int]) -> None:
        """Forget all arrays but those at the given positions."""
        self._kept = [self._kept[position] for position in positions]
        self.nbytes = sum(values.nbytes for values in self._kept)

    def shape(self, position: int) -> tuple[int, ...]:
        """Return the shape of an array."""
        found: tuple[int, ...] = self._kept[position].shape
        return found

    def stacked(self, positions: Sequence[int]) -> Array:
        """Return arrays of one shape behind each other, [len(positions), *shape], a copy."""
        found = np.stack([self._kept[position] for position in positions])
        return found if self._palette is None else self._palette.decode(found)

    def _decode_all(self) -> None:
        assert self._palette is not None
        self._kept = [self._palette.decode(values[None])[0] for values in self._kept]
        self.nbytes = sum(values.nbytes for values in self._kept)
        self._palette, self._plain = None, True


class _Palette:
    """At most 256 values of each channel, by their bits, in the order in which they were met."""

    def __init__(self, dtype: np.dtype[Any], axis: int | None, channels: int) -> None:
        self.dtype = dtype
        self.axis = axis
        self.tables = [np.empty(0, _BITS[dtype.itemsize]) for _ in range(channels)]

    @classmethod
    def of(cls, values: Array) -> _Palette | None:
        """Return an empty palette for arrays such as this one; None where it would save nothing."""
        if values.dtype.hasobject or values.dtype.itemsize not in _BITS:
            return None
        axis = channel_axis(values.shape)
        return cls(values.dtype, axis, 1 if axis is None else values.shape[axis])

    def code(self, values: Array) -> Array | None:
        """Return a byte for each value; None where some channel would have too many values."""
        if channel_axis(values.shape) != self.axis or values.dtype != self.dtype:
            return None
        if self.axis is not None and values.shape[self.axis] != len(self.tables):
            return None
        coded = np.empty(values.shape, np.uint8)
        bits = values.view(_BITS[self.dtype.itemsize])
        for channel, part, out in self._channels(bits, coded):
            found = self._codes(channel, part)
            if found is None:
                return None
            out[...] = found
        return coded

    def decode(self, coded: Array) -> Array:
        """Return the values of bytes, [samples, ...]."""
        made = np.empty(coded.shape, _BITS[self.dtype.itemsize])
        for channel, part, out in self._channels(coded, made, ahead=1):
            out[...] = self.tables[channel][part]
        return made.view(self.dtype)

    def _channels(self, one: Array, other: Array, ahead: int = 0) -> list[tuple[int, Array, Array]]:
        """Return (channel, part of one, part of the other) where both have channels alike."""
        if self.axis is None:
            return [(0, one, other)]
        moved = [np.moveaxis(array, self.axis + ahead, 0) for array in (one, other)]
        return [(channel, *(m[channel] for m in moved)) for channel in range(len(self.tables))]

    def _codes(self, channel: int, bits: Array) -> Array | None:
        """Return the codes of a channel's values; new ones get the next codes."""
        table = self.tables[channel]
        codes, known = _looked_up(table, bits)
        if not known.all():
            table = np.concatenate([table, np.unique(bits[~known])])
            if len(table) > _MOST_VALUES:
                return None
            self.tables[channel] = table
            codes, _ = _looked_up(table, bits)
        return codes


def _looked_up(table: Array, bits: Array) -> tuple[Array, Array]:
    """Return the place of each value in an unordered table, and whether it is there."""
    if not len(table):
        return np.zeros(bits.shape, np.uint8), np.zeros(bits.shape, bool)
    order = np.argsort(table)
    places = np.searchsorted(table, bits, sorter=order)
    codes = order[np.minimum(places, len(table) - 1)]
    return codes.astype(np.uint8), table[codes] == bits
