"""Run the next sample while the statistics of this one are taken."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from graphopt.calibration.base import Array, Dataset, Feed

    Batch = list[tuple[str, Array]]

_BATCH_BYTES = 4 << 20  # tensors that are handed over at once, so that many small ones cost little
_WAITING_BYTES = 16 << 20  # tensors that may wait; a single larger one waits alone


class TensorSource(Protocol):
    """Runs a model and gives its tensors in pieces, so that not all are held at once."""

    def tensors(self, feed: Feed) -> Iterator[tuple[str, Array]]:
        """Yield (name, values) of tensors for one sample; each at most once."""
        ...


def run_ahead(source: TensorSource, dataset: Dataset) -> Generator[tuple[int, Batch]]:
    """Yield (sample, some of its tensors) in order; the last part of each sample is empty.

    The source runs in a thread of its own, at most two samples at a time are begun, and what waits
    is bounded in bytes. The dataset is read in the calling thread. Results do not depend on timing.
    Errors of the source and of the dataset are raised here, as they are; closing the generator
    stops the thread after the run that it is in.
    """
    pipe = _Pipe()
    feeds = iter(dataset)
    with ThreadPoolExecutor(1, thread_name_prefix="calibration") as worker:
        try:
            feed = next(feeds, None)
            if feed is not None:
                worker.submit(_produce, source, feed, pipe)
            sample = 0
            while feed is not None:
                feed = next(feeds, None)
                if feed is not None:
                    worker.submit(_produce, source, feed, pipe)
                batch = pipe.get()
                while batch:
                    yield sample, batch
                    batch = pipe.get()
                yield sample, batch
                sample += 1
        finally:
            pipe.close()
            worker.shutdown(cancel_futures=True)


def _produce(source: TensorSource, feed: Feed, pipe: _Pipe) -> None:
    """Put the tensors of one sample into the pipe, then an empty batch, or what went wrong."""
    try:
        batch: Batch = []
        size = 0
        for name, values in source.tensors(feed):
            batch.append((name, values))
            size += values.nbytes
            if size >= _BATCH_BYTES:
                if not pipe.put(batch, size):
                    return
                batch, size = [], 0
        if batch:
            pipe.put(batch, size)
        pipe.put([], 0)
    except BaseException as error:
        pipe.fail(error)


class _Pipe:
    """A queue between two threads that is bounded in bytes."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._items: deque[tuple[Batch, int]] = deque()
        self._waiting = 0
        self._error: BaseException | None = None
        self._closed = False

    def put(self, batch: Batch, size: int) -> bool:
        """Append a batch when there is room; False when nobody reads any more."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._has_room(size))
            if not self._closed:
                self._items.append((batch, size))
                self._waiting += size
                self._condition.notify_all()
            return not self._closed

    def get(self) -> Batch:
        """Take the oldest batch; raises the producer's error once those before it are taken."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._error is not None)
            if not self._items:
                assert self._error is not None
                raise self._error
            batch, size = self._items.popleft()
            self._waiting -= size
            self._condition.notify_all()
            return batch

    def fail(self, error: BaseException) -> None:
        """Hand an error to the reader."""
        with self._condition:
            self._error = error
            self._condition.notify_all()

    def close(self) -> None:
        """Let the producer go: nothing more is read."""
        with self._condition:
            self._closed = True
            self._items.clear()
            self._condition.notify_all()

    def _has_room(self, size: int) -> bool:
        return self._waiting == 0 or self._waiting + size <= _WAITING_BYTES
