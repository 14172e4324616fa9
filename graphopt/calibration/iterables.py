"""Datasets made of Python iterables: lists, loaders, generators, and functions that make them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sized
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.columns import LABELS
from graphopt.calibration.conform import conform
from graphopt.calibration.dataset import StreamedDataset, feed_pieces, hash_pieces
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from graphopt.calibration.base import Array, Feed, InputSpecs

MAX_SPOOL_BYTES = 1 << 33
"""A one-shot iterator may fill 8 GiB of the temporary folder; more is taken for endless."""

MAX_SAMPLES = 1_000_000
"""An iterable that goes on longer is taken for endless."""

_ORIGIN = "a Python iterable"


def from_iterable(
    source: Iterable[Any] | Callable[[], Iterable[Any]], inputs: InputSpecs
) -> StreamedDataset:
    """Return the feeds that an iterable gives: mappings, tuples in input order, or single arrays.

    What can be iterated again is streamed each time; what cannot is written once to a temporary
    folder. A mapping may hold ``labels``.

    Raises:
        DataError: G211, not an iterable of arrays; G212 to G214, a feed does not fit the model.
    """
    if isinstance(source, Iterable):
        if iter(source) is source:
            return SpooledDataset(source, inputs)
        return IterableDataset(source, inputs)
    return IterableDataset(_Repeated(source), inputs)


class _Repeated:
    """An iterable that calls a function for each pass."""

    def __init__(self, function: Callable[[], Iterable[Any]]) -> None:
        self._function = function

    def __iter__(self) -> Iterator[Any]:
        made = self._function()
        if not isinstance(made, Iterable):
            raise DataError(
                f"the data function returned {type(made).__name__}",
                where=_ORIGIN,
                hint="return an iterator of feeds",
            )
        return iter(made)


class IterableDataset(StreamedDataset):
    """Feeds of an iterable that starts anew on every pass."""

    def __init__(self, source: Iterable[Any], inputs: InputSpecs) -> None:
        super().__init__(_ORIGIN)
        self._source = source
        self._inputs = inputs
        if len(self) == 0:
            raise _no_samples()

    def __len__(self) -> int:
        if isinstance(self._source, Sized):
            with suppress(TypeError):  # loaders of unknown length have a __len__ that raises
                return len(self._source)
        return self._scan[0]

    @cached_property
    def digest(self) -> str:
        """Hash of every feed, taken on one pass that also counts them."""
        return self._scan[1]

    def labels(self) -> Array | None:
        """Return the label of each sample when the feeds have them."""
        return self._scan[2]

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        wanted = iter(indices)
        next_one = next(wanted, None)
        for index, item in enumerate(self._source):
            if index == next_one:
                yield conform_item(item, self._inputs, index)[0]
                next_one = next(wanted, None)
            if next_one is None:
                return
        raise DataError(
            f"the iterable ended before sample {next_one}",
            where=self.origin,
            hint="it must give the same samples on every pass; wrap it in a function that makes a "
            "new iterator",
        )

    @cached_property
    def _scan(self) -> tuple[int, str, Array | None]:
        """Return (samples, digest, labels) from one pass."""
        labels: list[Array | None] = []

        def pieces() -> Iterator[bytes]:
            for index, item in enumerate(self._source):
                feed, label = conform_item(item, self._inputs, index)
                labels.append(label)
                if len(labels) > MAX_SAMPLES:
                    raise _endless(f"{MAX_SAMPLES} samples")
                yield from feed_pieces(feed)

        digest = hash_pieces(pieces())
        return len(labels), digest, _stack_labels(labels)


class SpooledDataset(StreamedDataset):
    """Feeds of a one-shot iterator, written to a temporary .npy file and read from there.

    The file is removed when the dataset is no longer used, or the interpreter ends.
    """

    def __init__(self, source: Iterable[Any], inputs: InputSpecs) -> None:
        super().__init__(_ORIGIN)
        self._inputs = inputs
        folder = Path(tempfile.mkdtemp(prefix="graphopt-data-"))
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = folder / "feeds.npy"
        self._offsets: list[int] = []
        labels: list[Array | None] = []
        try:
            self._digest = hash_pieces(self._write(source, labels))
            self._labels = _stack_labels(labels)
            if not labels:
                raise _no_samples()
        except BaseException:
            self._remove()
            raise

    def __len__(self) -> int:
        return len(self._offsets)

    @cached_property
    def digest(self) -> str:
        """Hash of every feed, taken while they were written."""
        return self._digest

    def labels(self) -> Array | None:
        """Return the label of each sample when the feeds have them."""
        return self._labels

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        with self._path.open("rb") as stream:
            for index in indices:
                stream.seek(self._offsets[index])
                arrays = [np.lib.format.read_array(stream) for _ in self._inputs]
                feed = dict(zip(self._inputs, arrays, strict=True))
                yield conform(feed, self._inputs, sample=index, where=self.origin)

    def _write(self, source: Iterable[Any], labels: list[Array | None]) -> Iterator[bytes]:
        """Write each feed as consecutive .npy arrays, and yield its bytes for the digest."""
        with self._path.open("wb") as stream:
            for index, item in enumerate(source):
                feed, label = conform_item(item, self._inputs, index)
                self._offsets.append(stream.tell())
                labels.append(label)
                _spool(stream, feed)
                if stream.tell() > MAX_SPOOL_BYTES:
                    raise _endless(f"{MAX_SPOOL_BYTES >> 30} GiB")
                yield from feed_pieces(feed)


def conform_item(item: object, inputs: InputSpecs, sample: int) -> tuple[Feed, Array | None]:
    """Return (feed, label) of one item of an iterable; raises DataError G211 to G214."""
    label = None
    if isinstance(item, Mapping):
        arrays = {str(name): _as_array(value, sample) for name, value in item.items()}
        if LABELS not in inputs:
            label = arrays.pop(LABELS, None)
    elif isinstance(item, (tuple, list)):
        arrays = _positional(item, inputs, sample)
    else:
        arrays = _positional((item,), inputs, sample)
    return conform(arrays, inputs, sample=sample, where=_ORIGIN), label


def _positional(
    item: tuple[object, ...] | list[object], inputs: InputSpecs, sample: int
) -> dict[str, Array]:
    if len(item) != len(inputs):
        names = ", ".join(f"`{name}`" for name in inputs)
        raise DataError(
            f"sample {sample} has {len(item)} arrays and the model has {len(inputs)} inputs",
            code="G212",
            where=_ORIGIN,
            hint=f"give the arrays of {names} in this order, or a dict; for a loader of "
            "(inputs, labels) use `(x for x, _ in loader)`",
        )
    return {name: _as_array(value, sample) for name, value in zip(inputs, item, strict=True)}


def _as_array(value: object, sample: int) -> Array:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _not_an_array(value, sample) from error
    if array.dtype.hasobject:
        raise _not_an_array(value, sample)
    return array


def _not_an_array(value: object, sample: int) -> DataError:
    return DataError(
        f"sample {sample} holds a {type(value).__name__} that is not an array",
        where=_ORIGIN,
        hint="a feed is a dict, a tuple or one array of numbers",
    )


def _spool(stream: IO[bytes], feed: Feed) -> None:
    try:
        for array in feed.values():
            # Text is spooled at a fixed width: arrays of Python objects would need pickles.
            plain = array.astype(np.str_) if array.dtype.hasobject else array
            np.lib.format.write_array(stream, plain, allow_pickle=False)
        stream.flush()
    except OSError as error:
        raise DataError(
            f"the samples of an iterator cannot be kept for a second pass: {error.strerror}",
            where=tempfile.gettempdir(),
            hint="pass a function that makes a new iterator: its samples are not stored",
        ) from error


def _endless(limit: str) -> DataError:
    return DataError(
        f"the iterable gave more than {limit}",
        where=_ORIGIN,
        hint="cut it with `itertools.islice`",
    )


def _stack_labels(labels: list[Array | None]) -> Array | None:
    present = [np.squeeze(label) for label in labels if label is not None]
    if not present:
        return None
    if len(present) < len(labels) or len({label.shape for label in present}) > 1:
        raise DataError(
            f"{len(present)} of {len(labels)} feeds have labels, or their shapes differ",
            code="G212",
            where=_ORIGIN,
            hint="give every feed one label of the same shape, or none",
        )
    return np.stack(present)


def _no_samples() -> DataError:
    return DataError(
        "the iterable gives no samples", code="G213", where=_ORIGIN, hint="is it used up already?"
    )
