"""Two samples at a time: one runs while the statistics of the other are taken, in order."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from graphopt.calibration.base import Array, Dataset, Feed

    Take = Callable[[str, Array, int], None]

_WAITING_BYTES = 16 << 20  # feeds that may wait; a single larger one waits alone
_WAITING_FEEDS = 32
_WORTH_BYTES = 1 << 20  # tensors of a sample from which on two threads are faster than one
_BATCH_BYTES = 16 << 20  # tensors that are taken at once, so that threads meet seldom


class TensorSource(Protocol):
    """Runs a model and gives its tensors in pieces, so that not all are held at once.

    A source that says ``concurrent = True`` may be asked from two threads at the same time, and
    gives the same tensors in the same order for every feed.
    """

    def tensors(self, feed: Feed) -> Iterator[tuple[str, Array]]:
        """Yield (name, values) of tensors for one sample; each at most once."""
        ...


def run_together(source: TensorSource, dataset: Dataset, take: Take) -> Generator[int]:
    """Give ``take`` (name, values, sample) of every tensor; yield 1, 2 … as samples are done.

    Where the source is ``concurrent``, a second thread works beside the calling one, which alone
    reads the dataset, from the second sample on, unless its samples are so small that the threads
    would mostly wait for each other: each runs a sample and takes its statistics. Only one takes at
    a time (two would quarrel about the interpreter), and every tensor in the order of the samples,
    so the result is that of one thread. What is held is two samples, and some feeds. Of errors the
    one of the earliest sample is raised, once those before it were taken. Closing the generator
    stops the thread after the run that it is in.

    Args:
        source: gives the tensors.
        dataset: the samples.
        take: called by one thread at a time.
    """
    crew = _Crew(source, take, enumerate(dataset))
    concurrent = getattr(source, "concurrent", False)
    helper = threading.Thread(target=crew.help, name="calibration", daemon=True)
    told = 0
    try:
        while crew.fill(_WAITING_FEEDS if helper.is_alive() else 1):
            crew.run_next()
            if concurrent and crew.is_worth_two and not helper.is_alive():
                helper.start()
            while told < crew.done:
                told += 1
                yield told
        crew.dismiss(helper)
        while told < crew.done:
            told += 1
            yield told
        crew.fail()
    finally:
        crew.close()
        crew.dismiss(helper)


class _Crew:
    """The feeds that wait, and how far the others are."""

    def __init__(self, source: TensorSource, take: Take, feeds: Iterator[tuple[int, Feed]]) -> None:
        self.done = 0
        self._source, self._take, self._feeds = source, take, feeds
        self._queue: SimpleQueue[tuple[int, Feed] | None] = SimpleQueue()
        self._failures: list[tuple[int, Exception]] = []
        self._begun = 0
        self._turn = threading.Condition()
        self._waiting = 0
        self._busy = False
        self._left = 0  # samples that are over, all before them too
        self._taken = 0  # tensors taken of the first one that is not
        self._closed = False
        self._largest = 0  # bytes of the tensors of a sample

    @property
    def is_worth_two(self) -> bool:
        """Whether a sample is work enough for a second thread to pay."""
        return self._largest >= _WORTH_BYTES

    def fill(self, count: int) -> bool:
        """Read feeds until enough wait; False when none does, and none will."""
        while not self._failures and self._queue.qsize() < count and self._has_room():
            try:
                item = next(self._feeds, None)
            except Exception as error:
                self._failures.append((self._begun, error))
                break
            if item is None:
                break
            self._begun += 1
            with self._turn:
                self._waiting += _nbytes(item[1].values())
            self._queue.put(item)
        return not self._queue.empty()

    def run_next(self) -> None:
        """Run the sample that has waited longest, when there is one."""
        try:
            item = self._queue.get_nowait()
        except Empty:
            return
        if item is not None:
            self._run(*item)

    def help(self) -> None:
        """Run what waits, until dismissed."""
        while (item := self._queue.get()) is not None and not self._closed:
            self._run(*item)

    def close(self) -> None:
        """Let nobody wait any more: nothing more is taken."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    def dismiss(self, helper: threading.Thread) -> None:
        """Wait until the helper has left."""
        if helper.is_alive():
            self._queue.put(None)
            helper.join()

    def fail(self) -> None:
        """Raise the error of the earliest sample that had one."""
        if self._failures:
            raise min(self._failures, key=lambda failure: failure[0])[1]

    def _run(self, sample: int, feed: Feed) -> None:
        with self._turn:
            self._waiting -= _nbytes(feed.values())
        # Samples before one that failed are run, so that it is always the same one that is told.
        fine = all(sample < other for other, _ in self._failures)
        if fine:
            try:
                self._work(sample, feed)
            except Exception as error:
                self._failures.append((sample, error))
                fine = False
        with self._turn:
            self._turn.wait_for(lambda: self._left == sample or self._closed)
            self._left, self._taken = sample + 1, 0
            self.done += fine
            self._turn.notify_all()

    def _work(self, sample: int, feed: Feed) -> None:
        """Run a sample and hand over its tensors; what was right comes before an error."""
        batch: list[tuple[str, Array]] = []
        size = count = total = 0
        try:
            for name, values in self._source.tensors(feed):
                batch.append((name, values))
                size += values.nbytes
                total += values.nbytes
                if size >= _BATCH_BYTES:
                    count += len(batch)
                    self._hand_over(sample, batch, count)
                    batch, size = [], 0
        finally:
            self._largest = max(self._largest, total)
            self._hand_over(sample, batch, count + len(batch))

    def _hand_over(self, sample: int, batch: list[tuple[str, Array]], count: int) -> None:
        """Take tensors, up to number ``count`` of a sample, after those of the one before."""
        with self._turn:
            self._turn.wait_for(lambda: self._closed or self._is_free(sample, count))
            if self._closed:
                return
            self._busy = True
        try:
            for name, values in batch:
                self._take(name, values, sample)
        finally:
            with self._turn:
                self._busy = False
                if self._left == sample:
                    self._taken = count
                self._turn.notify_all()

    def _is_free(self, sample: int, count: int) -> bool:
        if self._busy:
            return False
        return self._left == sample or (self._left == sample - 1 and self._taken >= count)

    def _has_room(self) -> bool:
        return self._waiting < _WAITING_BYTES


def _nbytes(arrays: Iterable[Array]) -> int:
    return sum(values.nbytes for values in arrays)
