"""Run the next sample while the statistics of this one are taken."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from graphopt.calibration.base import Array, Dataset, Feed

    Batch = list[tuple[str, Array]]
    Parts = list[tuple[int, Batch]]

_BATCH_BYTES = 4 << 20  # tensors that are handed over at once, so that many small ones cost little
_WAITING_BYTES = 16 << 20  # tensors that may wait; a single larger one waits alone
_LOT_BYTES = 1 << 20  # small samples that are run one after the other before they are handed over
_LOT_SAMPLES = 32


class TensorSource(Protocol):
    """Runs a model and gives its tensors in pieces, so that not all are held at once."""

    def tensors(self, feed: Feed) -> Iterator[tuple[str, Array]]:
        """Yield (name, values) of tensors for one sample; each at most once."""
        ...


def run_ahead(source: TensorSource, dataset: Dataset) -> Generator[tuple[int, Batch]]:
    """Yield (sample, some of its tensors) in order; the last part of each sample is empty.

    The source runs in a thread of its own, and what waits is bounded in bytes. At most two lots of
    samples are begun at a time: a lot is one sample, or some that are small, so that threads meet
    less often. The dataset is read in the calling thread. Results do not depend on timing. Errors
    of the source and of the dataset are raised here, as they are; closing the generator stops the
    thread after the run that it is in.
    """
    feeds = enumerate(dataset)
    pace = _Pace()
    pipes: deque[_Pipe] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="calibration") as worker:
        try:
            while True:
                while len(pipes) < 2 and (lot := list(islice(feeds, pace.samples))):
                    pipes.append(_Pipe())
                    worker.submit(_produce, source, lot, pipes[-1])
                if not pipes:
                    return
                for sample, batch in _read(pipes[0]):
                    pace.see(batch)
                    yield sample, batch
                pipes.popleft()
        finally:
            for pipe in pipes:
                pipe.close()
            worker.shutdown(cancel_futures=True)


class _Pace:
    """How many samples make a lot, by the size of the largest so far."""

    def __init__(self) -> None:
        self._largest = 0
        self._size = 0

    @property
    def samples(self) -> int:
        """Samples in a lot."""
        if not self._largest:
            return 1
        return max(1, min(_LOT_BYTES // self._largest, _LOT_SAMPLES))

    def see(self, batch: Batch) -> None:
        """Take note of a part of a sample."""
        self._size += sum(values.nbytes for _, values in batch)
        if not batch:
            self._largest = max(self._largest, self._size, 1)
            self._size = 0


def _read(pipe: _Pipe) -> Iterator[tuple[int, Batch]]:
    while parts := pipe.get():
        yield from parts


def _produce(source: TensorSource, lot: Sequence[tuple[int, Feed]], pipe: _Pipe) -> None:
    """Put the tensors of some samples into the pipe, then nothing, or what went wrong."""
    try:
        for parts, size in _parts(source, lot, pipe):
            if not pipe.put(parts, size):
                return
        pipe.put([], 0)
    except BaseException as error:
        pipe.fail(error)


def _parts(
    source: TensorSource, lot: Iterable[tuple[int, Feed]], pipe: _Pipe
) -> Iterator[tuple[Parts, int]]:
    """Yield what is handed over at once, and its bytes; what was right comes before an error."""
    parts: Parts = []
    size = 0
    try:
        for sample, feed in lot:
            if pipe.closed:
                return
            batch: Batch = []
            for name, values in source.tensors(feed):
                batch.append((name, values))
                size += values.nbytes
                if size >= _BATCH_BYTES:
                    yield [*parts, (sample, batch)], size
                    parts, batch, size = [], [], 0
            if batch:
                parts.append((sample, batch))
            parts.append((sample, []))
    except Exception:
        if parts:
            yield parts, size
        raise
    yield parts, size


class _Pipe:
    """A queue between two threads that is bounded in bytes."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: deque[tuple[Parts, int]] = deque()
        self._waiting = 0
        self._error: BaseException | None = None
        self.closed = False

    def put(self, parts: Parts, size: int) -> bool:
        """Append parts when there is room; False when nobody reads any more."""
        with self._condition:
            self._condition.wait_for(lambda: self.closed or self._has_room(size))
            if not self.closed:
                self._items.append((parts, size))
                self._waiting += size
                self._condition.notify_all()
            return not self.closed

    def get(self) -> Parts:
        """Take the oldest parts; raises the producer's error once those before it are taken."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._error is not None)
            if not self._items:
                assert self._error is not None
                raise self._error
            parts, size = self._items.popleft()
            self._waiting -= size
            self._condition.notify_all()
            return parts

    def fail(self, error: BaseException) -> None:
        """Hand an error to the reader."""
        with self._condition:
            self._error = error
            self._condition.notify_all()

    def close(self) -> None:
        """Let the producer go: nothing more is read."""
        with self._condition:
            self.closed = True
            self._items.clear()
            self._condition.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._waiting == 0 or self._waiting + size <= _WAITING_BYTES
