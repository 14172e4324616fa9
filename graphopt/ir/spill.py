"""Large constants that were computed go to temporary files once many of them are in memory."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    Array = np.ndarray[Any, Any]

LEAST_SPILLED = 1 << 20
"""Smaller arrays stay in memory, and are not counted."""
HELD_LIMIT = 256 << 20
"""Bytes of computed constants that are held in memory; what comes beyond goes to files."""


@dataclass
class _Held:
    """How much is in memory now, and where the rest is."""

    nbytes: int = 0
    folder: str | None = None

    def release(self, nbytes: int) -> None:
        """Forget an array that nobody has any more."""
        self.nbytes -= nbytes

    def place(self) -> str:
        """Return the folder of the files; it goes when the process ends."""
        if self.folder is None:
            self.folder = tempfile.mkdtemp(prefix="graphopt-")
            atexit.register(shutil.rmtree, self.folder, ignore_errors=True)
        return self.folder


_held = _Held()


def folder_of(paths: Iterable[Path]) -> Path | None:
    """Return the folder of the temporary files where all of these are some; None otherwise."""
    place = None if _held.folder is None else Path(_held.folder).resolve()
    return place if place is not None and all(path.parent == place for path in paths) else None


def has_room(nbytes: int) -> bool:
    """Whether an array of this size may stay in memory."""
    return nbytes < LEAST_SPILLED or _held.nbytes + nbytes <= HELD_LIMIT


def hold(values: Array) -> None:
    """Count an array that stays in memory, until nobody has it any more."""
    if values.nbytes >= LEAST_SPILLED:
        _held.nbytes += values.nbytes
        weakref.finalize(values, _held.release, values.nbytes)


def new_file() -> tuple[int, Path] | None:
    """Return an open temporary file and its path; None where no file can be written."""
    try:
        handle, name = tempfile.mkstemp(suffix=".bin", dir=_held.place())
    except OSError:
        return None
    return handle, Path(name).resolve()


def write(values: Array) -> Path | None:
    """Write an array to a file of its own; None where no file can be written."""
    made = new_file()
    if made is None:
        return None
    handle, path = made
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    except OSError:
        remove(str(path))
        return None
    return path


def remove(name: str) -> None:
    """Remove a file; where the system keeps what is still mapped, it goes with the folder."""
    with contextlib.suppress(OSError):
        Path(name).unlink(missing_ok=True)
