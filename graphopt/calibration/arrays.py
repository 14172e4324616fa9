"""Arrays that are read row by row: from memory, from .npy files, from members of .npz files."""

from __future__ import annotations

import functools
import math
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np

from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from graphopt.calibration.base import Array

MAX_ARRAY_BYTES = 1 << 36
"""A file that declares a larger array is refused: 64 GiB unpacked is a mistake or a zip bomb."""

MAX_BLOCK_BYTES = 1 << 30
"""The most that is held in memory at once: one sample, the labels, or a Fortran-ordered array."""

_CHUNK_BYTES = 1 << 20
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted members, unknown compression
    zipfile.BadZipFile,
    zlib.error,
)


class Rows(Protocol):
    """An array whose slices along axis 0 can be read one after the other."""

    @property
    def name(self) -> str:
        """The name that the user gave it."""
        ...

    @property
    def where(self) -> str:
        """Where it is, for error messages."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type."""
        ...

    def blocks(self, starts: Iterable[int], count: int) -> Generator[Array]:
        """Yield rows ``start`` to ``start + count`` for each start, in ascending order."""
        ...

    def whole(self) -> Array:
        """Return the whole array; raises DataError G211 when it is larger than a block may be."""
        ...


@dataclass(frozen=True)
class MemoryRows:
    """An array in memory."""

    name: str
    where: str
    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Element type."""
        dtype: np.dtype[np.generic] = self.array.dtype
        return dtype

    def blocks(self, starts: Iterable[int], count: int) -> Generator[Array]:
        """Yield views of rows ``start`` to ``start + count``."""
        for start in starts:
            yield self.array[start : start + count]

    def whole(self) -> Array:
        """Return the array itself."""
        return self.array


@dataclass(frozen=True)
class FileRows:
    """An array in .npy format inside a file; memory is one block, whatever the array's size.

    Args:
        opener: opens the file or the decompressed member at its first byte.
        offset: bytes before the first element.
        fortran: the file stores the first axis innermost, so rows cannot be streamed.
    """

    name: str
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    offset: int
    opener: Callable[[], AbstractContextManager[IO[bytes]]]

    def blocks(self, starts: Iterable[int], count: int) -> Generator[Array]:
        """Yield rows ``start`` to ``start + count``; raises DataError G211 on a damaged file."""
        if self.fortran:
            yield from MemoryRows(self.name, self.where, self.whole()).blocks(starts, count)
            return
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        self._check_memory(row_bytes * count)
        position = 0
        with reading(self.where), self.opener() as stream:
            _skip(stream, self.offset)
            for start in starts:
                _skip(stream, (start - position) * row_bytes)
                yield self._read(stream, (count, *self.shape[1:]))
                position = start + count

    def whole(self) -> Array:
        """Return the whole array; raises DataError G211 when it is larger than a block may be."""
        self._check_memory(self.dtype.itemsize * math.prod(self.shape))
        with reading(self.where), self.opener() as stream:
            _skip(stream, self.offset)
            if self.fortran:
                return self._read(stream, self.shape[::-1]).transpose()
            return self._read(stream, self.shape)

    def _read(self, stream: IO[bytes], shape: tuple[int, ...]) -> Array:
        wanted = self.dtype.itemsize * math.prod(shape)
        buffer = bytearray(stream.read(wanted))
        if len(buffer) != wanted:
            raise EOFError("the array is shorter than its header says")
        if not wanted:
            return np.empty(shape, dtype=self.dtype)
        return np.frombuffer(buffer, dtype=self.dtype).reshape(shape)

    def _check_memory(self, nbytes: int) -> None:
        if nbytes > MAX_BLOCK_BYTES:
            raise DataError(
                f"array `{self.name}` needs {nbytes / 2**30:.1f} GiB in memory at once",
                where=self.where,
                hint=f"at most {MAX_BLOCK_BYTES >> 30} GiB are held: save it in C order, or in "
                "parts as a folder of .npz files",
            )


def read_npy(path: Path) -> FileRows:
    """Return the array of a .npy file without reading its values.

    Raises:
        DataError: G211, the file is missing, damaged, too large, or holds Python objects.
    """
    with reading(str(path)), path.open("rb") as stream:
        size = path.stat().st_size
        return _rows(stream, path.stem, str(path), size, functools.partial(_open_file, path))


def read_npz(path: Path) -> list[FileRows]:
    """Return the arrays of a .npz file, in the order of the file, without reading their values.

    Raises:
        DataError: G211, the file is missing, damaged, too large, or holds Python objects.
    """
    found = {}
    with reading(str(path)), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(
                    f"member `{member.filename}` is compressed in another way than numpy's"
                )
            name = member.filename.removesuffix(".npy")
            opener = functools.partial(_open_member, path, member.filename)
            with archive.open(member) as stream:
                found[name] = _rows(stream, name, str(path), member.file_size, opener)
    return list(found.values())


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn every way in which a file can be unreadable into DataError G211."""
    try:
        yield
    except _UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DataError(
            f"the data cannot be read: {reason or str(error) or type(error).__name__}",
            where=where,
            hint="write it with `numpy.save` or `numpy.savez`; arrays of Python objects are "
            "refused",
        ) from error


@contextmanager
def _open_file(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as stream:
        yield stream


@contextmanager
def _open_member(path: Path, member: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        yield stream


def _rows(
    stream: IO[bytes],
    name: str,
    where: str,
    size: int,
    opener: Callable[[], AbstractContextManager[IO[bytes]]],
) -> FileRows:
    """Read the header of an array; ``size`` is what the file or member holds, in bytes."""
    shape, fortran, dtype = _header(stream)
    if dtype.kind not in "biufUS" or dtype.itemsize == 0:
        raise ValueError(f"array `{name}` has the element type {dtype}, which is not a number")
    nbytes = dtype.itemsize * math.prod(shape)
    if nbytes > MAX_ARRAY_BYTES:
        raise ValueError(
            f"array `{name}` declares {nbytes / 2**30:.0f} GiB; the limit is "
            f"{MAX_ARRAY_BYTES >> 30} GiB"
        )
    offset = stream.tell()
    if offset + nbytes != size:
        raise ValueError(
            f"array `{name}` declares {nbytes} bytes and the file holds {max(size - offset, 0)}"
        )
    return FileRows(name, where, shape, dtype, fortran and len(shape) > 1, offset, opener)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"version {version} of the .npy format holds structures, not numbers")
    if not all(size >= 0 for size in shape):
        raise ValueError(f"the shape {shape} has a negative size")
    return tuple(shape), bool(fortran), dtype


def _skip(stream: IO[bytes], count: int) -> None:
    """Move forward; a compressed member can only be read, so it is read in small pieces."""
    if not isinstance(stream, zipfile.ZipExtFile):
        stream.seek(count, 1)
        return
    while count > 0:
        piece = stream.read(min(count, _CHUNK_BYTES))
        if not piece:
            raise EOFError("the array is shorter than its header says")
        count -= len(piece)
