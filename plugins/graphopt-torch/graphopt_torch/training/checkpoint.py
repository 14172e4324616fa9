"""Where a training is, on disk, so that one that was stopped goes on from there."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from graphopt import ir
from graphopt.calibration.cache_folder import cache_folder
from graphopt.errors import GraphOptError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Array = np.ndarray[Any, Any]

EVERY = 20.0
"""Seconds between two checkpoints."""
_WORTH = 20.0
"""Seconds of training that a second of writing is worth."""


_ROOM = 1 << 30
"""Bytes of all checkpoints; those of trainings that nobody took up again go first."""


class Checkpoint:
    """One file with everything that a training needs to go on; nothing happens without a path.

    Args:
        path: of the file.
        every: seconds between two times that it is written; more where writing takes long.
    """

    def __init__(self, path: Path | None, every: float = EVERY) -> None:
        self.path = path
        self._every = every
        self._due = time.monotonic() + every

    @classmethod
    def of(cls, key: str) -> Checkpoint:
        """Return the checkpoint in the cache folder of what has this key."""
        folder = cache_folder()
        return cls(None if folder is None else folder / "training" / f"{key}.npz")

    def load(self) -> dict[str, Array] | None:
        """Return what was saved; None where there is nothing, or nothing usable."""
        if self.path is None:
            return None
        try:
            with np.load(self.path, allow_pickle=False) as saved:
                return {name: saved[name] for name in saved.files}
        except (OSError, ValueError, BadZipFile, KeyError, EOFError):
            return None

    def save_if_due(self, state: Callable[[], Mapping[str, Array]]) -> None:
        """Save once enough time has gone by."""
        if self.path is not None and time.monotonic() >= self._due:
            self.save(state())

    def save(self, state: Mapping[str, Array]) -> None:
        """Put a state in the place of the last one; a full disk is no reason to stop."""
        if self.path is None:
            return
        started = time.monotonic()
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **dict(state))
        with suppress(OSError, GraphOptError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            ir.write_whole(self.path, packed.getvalue())
            _make_room(self.path)
        ended = time.monotonic()
        self._due = ended + max(self._every, _WORTH * (ended - started))

    def discard(self) -> None:
        """Remove the file, since the training has ended."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _make_room(newest: Path) -> None:
    """Remove the oldest checkpoints once all of them take too much."""
    facts = [(path.stat(), path) for path in newest.parent.glob("*.npz") if path != newest]
    over = newest.stat().st_size + sum(fact.st_size for fact, _ in facts) - _ROOM
    for fact, path in sorted(facts, key=lambda each: each[0].st_mtime):
        if over <= 0:
            return
        path.unlink(missing_ok=True)
        over -= fact.st_size
