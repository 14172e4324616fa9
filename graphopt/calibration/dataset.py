"""Datasets: samples that are read as they are needed, and may be read again."""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from graphopt.calibration.conform import conform
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from graphopt.calibration.base import Array, Dataset, Feed, InputSpecs
    from graphopt.calibration.columns import Column

_CHUNK_BYTES = 1 << 20
_GOLDEN = 0.6180339887498949


class StreamedDataset(ABC):
    """Base of datasets that hold one feed at a time; a reader of a plugin may build on it.

    Args:
        origin: where the data comes from, as the user wrote it.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""

    def content(self) -> Iterator[bytes]:
        """Yield, in pieces, what the digest is taken of: every feed, unless that is overridden."""
        for feed in self:
            yield from feed_pieces(feed)

    def labels(self) -> Array | None:
        """Return the label of each sample when the data has them."""
        return None

    def __iter__(self) -> Iterator[Feed]:
        return self.select(range(len(self)))

    @cached_property
    def digest(self) -> str:
        """Hash of the content: BLAKE2b of 16 bytes, in hexadecimal."""
        return hash_pieces(self.content())


class ArrayDataset(StreamedDataset):
    """Samples cut from one array per model input.

    Args:
        columns: the array of each input and how it is cut.
        labels: one per sample.
        ignored: names of arrays that no input takes.
        origin: where the arrays come from.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        inputs: InputSpecs,
        *,
        origin: str,
        labels: Array | None = None,
        ignored: tuple[str, ...] = (),
    ) -> None:
        super().__init__(origin)
        self.ignored = ignored
        self._columns = columns
        self._inputs = inputs
        self._labels = labels
        self._length = len(next(iter(columns.values())))

    def __len__(self) -> int:
        return self._length

    def labels(self) -> Array | None:
        """Return the label of each sample when the data has them."""
        return self._labels

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(column.samples(indices)))
                for column in self._columns.values()
            ]
            for index, arrays in zip(indices, zip(*streams, strict=True), strict=True):
                feed = dict(zip(self._columns, arrays, strict=True))
                yield conform(feed, self._inputs, sample=index, where=self.origin)

    def content(self) -> Iterator[bytes]:
        """Yield the arrays and how they are cut."""
        for name, column in self._columns.items():
            yield f"{name}:{column.rule}:{column.rows.dtype}:{column.rows.shape};".encode()
            for block in column.rows.blocks(range(column.rows.shape[0]), 1):
                yield block.tobytes()


class FileDataset(StreamedDataset):
    """The samples of one file, known by the bytes of the file."""

    def __init__(self, path: Path, samples: StreamedDataset, salt: str = "") -> None:
        super().__init__(samples.origin)
        self._path = path
        self._samples = samples
        self._salt = salt

    def __len__(self) -> int:
        return len(self._samples)

    def labels(self) -> Array | None:
        """Return the label of each sample when the data has them."""
        return self._samples.labels()

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        return self._samples.select(indices)

    def content(self) -> Iterator[bytes]:
        """Yield the options, then the bytes of the file."""
        yield self._salt.encode()
        yield from file_pieces(self._path)


class ChainedDataset(StreamedDataset):
    """The samples of several datasets, one after the other.

    Args:
        parts: at least one dataset; shapes may differ between them.
        labels: one per sample; by default those of the parts, when all have them.
    """

    def __init__(
        self, parts: Sequence[StreamedDataset], *, origin: str, labels: Array | None = None
    ) -> None:
        super().__init__(origin)
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._labels = _joined_labels(parts, origin) if labels is None else labels
        check_label_count(self._labels, len(self), origin)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def labels(self) -> Array | None:
        """Return the label of each sample when the data has them."""
        return self._labels

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        wanted = np.asarray(indices, dtype=np.int64)
        owners = np.searchsorted(self._starts, wanted, side="right") - 1
        for owner in np.unique(owners):
            inside = wanted[owners == owner] - self._starts[owner]
            yield from self._parts[owner].select(inside.tolist())

    def content(self) -> Iterator[bytes]:
        """Yield the digests of the parts."""
        for part in self._parts:
            yield part.digest.encode()


class Subset(StreamedDataset):
    """Some samples of another dataset.

    Args:
        dataset: any dataset; what it cannot skip is read and dropped.
        indices: the samples, ascending.
    """

    def __init__(self, dataset: Dataset, indices: Sequence[int]) -> None:
        super().__init__(dataset.origin)
        self._dataset = dataset
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def labels(self) -> Array | None:
        """Return the label of each sample when the data has them."""
        labels = self._dataset.labels()
        return None if labels is None else labels[np.asarray(self._indices, dtype=np.int64)]

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        wanted = [self._indices[index] for index in indices]
        if isinstance(self._dataset, StreamedDataset):
            yield from self._dataset.select(wanted)
        elif wanted:
            chosen = set(wanted)
            for index, feed in enumerate(itertools.islice(self._dataset, wanted[-1] + 1)):
                if index in chosen:
                    yield feed

    def content(self) -> Iterator[bytes]:
        """Yield the digest of the whole, and which samples are in."""
        yield self._dataset.digest.encode()
        yield np.asarray(self._indices, dtype=np.int64).tobytes()


def take(dataset: Dataset, count: int) -> Dataset:
    """Return ``count`` samples spread over the dataset, or all when it has no more than that."""
    if count < 1:
        raise DataError(
            f"{count} samples of {dataset.origin} are wanted", code="G213", hint="use at least 1"
        )
    return dataset if count >= len(dataset) else Subset(dataset, spread(len(dataset), count))


def split(dataset: Dataset, held_out: int) -> tuple[Dataset, Dataset]:
    """Return (calibration, held out): ``held_out`` samples spread over the dataset, and the rest.

    Raises:
        DataError: G213, nothing would be left for calibration.
    """
    total = len(dataset)
    if not 0 <= held_out < total:
        raise DataError(
            f"holding out {held_out} of {total} samples leaves none to calibrate with",
            code="G213",
            where=dataset.origin,
            hint="give more samples, or hold out fewer",
        )
    chosen = spread(total, held_out)
    excluded = set(chosen)
    rest = [index for index in range(total) if index not in excluded]
    return (Subset(dataset, rest) if held_out else dataset), Subset(dataset, chosen)


def spread(total: int, count: int) -> list[int]:
    """Return ``count`` ascending indices below ``total``, one from each of ``count`` equal parts.

    Inside its part the index moves with the golden ratio, so that data whose classes repeat with a
    fixed period is not sampled from one class only. ``count <= total``.
    """
    chosen = []
    for part in range(count):
        start, stop = part * total // count, (part + 1) * total // count
        chosen.append(start + int((part * _GOLDEN % 1.0) * (stop - start)))
    return chosen


def hash_pieces(pieces: Iterator[bytes]) -> str:
    """Return the BLAKE2b hash of a stream of bytes, 16 bytes in hexadecimal."""
    hasher = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        hasher.update(piece)
    return hasher.hexdigest()


def feed_pieces(feed: Feed) -> Iterator[bytes]:
    """Yield names, types, shapes and values of one feed."""
    for name, array in feed.items():
        yield f"{name}:{array.dtype}:{array.shape};".encode()
        yield "\0".join(array.ravel()).encode() if array.dtype.hasobject else array.tobytes()


def file_pieces(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file in pieces of 1 MiB."""
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            yield piece


def check_label_count(labels: Array | None, samples: int, where: str) -> None:
    """Raise DataError G212 unless there is one label per sample, or none at all."""
    if labels is None:
        return
    found = labels.shape[0] if labels.ndim else 0
    if found != samples:
        raise DataError(
            f"the data has {samples} samples and {found} labels",
            code="G212",
            where=where,
            hint="`labels` needs one entry per sample",
        )


def _joined_labels(parts: Sequence[StreamedDataset], origin: str) -> Array | None:
    found = [part.labels() for part in parts]
    labels = [array for array in found if array is not None]
    if not labels:
        return None
    if len(labels) < len(found):
        raise DataError(
            f"{len(labels)} of {len(found)} files have labels",
            code="G212",
            where=origin,
            hint="add `labels` to every file, or to none",
        )
    if len({array.shape[1:] for array in labels}) > 1:
        raise DataError(
            "the labels of the files differ in shape",
            code="G212",
            where=origin,
            hint="give every file labels of the same shape",
        )
    return np.concatenate(labels)
