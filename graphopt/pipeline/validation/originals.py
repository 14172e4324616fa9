"""What the original gives for each sample, kept on disk so that it runs once."""

from __future__ import annotations

import tempfile
import weakref
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.calibration.base import Feed
    from graphopt.runtime import Session

    Array = np.ndarray[Any, Any]

MOST_BYTES = 1 << 30
"""Outputs beyond 1 GiB are not kept: the original is run again for them."""


class OriginalOutputs:
    """The first output of the original by sample, in a temporary file without a name.

    Args:
        session: gives the original, open; None where it is not at hand.
    """

    def __init__(self, session: Callable[[], Session] | None) -> None:
        self._session = session
        self._file: IO[bytes] | None = None
        self._places: dict[int, int] = {}

    def of(self, index: int, feed: Feed) -> Array:
        """Return the output for a sample; runs the original where it is not kept.

        Raises:
            DataError: G216, it is not kept, and the original is not at hand.
        """
        if index in self._places and self._file is not None:
            self._file.seek(self._places[index])
            return np.asarray(np.lib.format.read_array(self._file))
        if self._session is None:
            raise DataError(
                "the metric compares with whole outputs of the original, which is not open here",
                code="G216",
                hint="open the guard with the original",
            )
        session = self._session()
        found = np.asarray(session.run(feed, session.outputs[:1])[0])
        self.keep(index, found)
        return found

    def keep(self, index: int, output: Array) -> None:
        """Keep an output, if there is room and it is of numbers."""
        if output.dtype.hasobject:
            return
        with suppress(OSError):  # a full disk costs time, not the result
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="graphopt-outputs-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            place = self._file.seek(0, 2)
            if place + output.nbytes <= MOST_BYTES:
                np.lib.format.write_array(self._file, output, allow_pickle=False)
                self._places[index] = place

    def __getstate__(self) -> dict[str, Any]:
        """Another process has neither the session nor the file."""
        return {"_session": None, "_file": None, "_places": {}}
