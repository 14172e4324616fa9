"""Work that is begun before its result is asked for, on another core.

onnxruntime opens and runs models without holding Python's lock, so that a model is opened while
passes run.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Ahead(Generic[T]):
    """One piece of work in a thread of its own.

    Args:
        work: is begun at once; it may only touch what nobody else changes meanwhile.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._found: list[T] = []
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:  # raised where the result is asked for
            self._failed = error

    def finish(self) -> None:
        """Wait for the end of the work; what became of it does not matter."""
        self._thread.join()

    def result(self) -> T:
        """Return the result, once it is there; raise what the work raised."""
        self._thread.join()
        if self._failed is not None:
            raise self._failed
        return self._found.pop()
