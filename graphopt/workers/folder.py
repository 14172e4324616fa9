"""Temporary folders that are removed with the process that claimed them, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import weakref
from pathlib import Path

_LOCK = ".claimed"


class Claimed:
    """A folder that belongs to this process as long as it lives.

    Args:
        path: the folder.
        descriptor: of the locked file in it; None where the system has no such locks.
    """

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._finalizer = weakref.finalize(self, _remove, path, descriptor)

    def release(self) -> None:
        """Remove it."""
        self._finalizer()


def claim(prefix: str) -> Claimed:
    """Make a temporary folder; remove those of the same prefix whose process was killed."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{prefix}*"):
        _remove_if_left(left)
    # Nobody may find it before it is locked.
    hidden = Path(tempfile.mkdtemp(prefix=f".{prefix}", dir=base))
    descriptor = _lock(hidden / _LOCK, os.O_CREAT)
    return Claimed(hidden.rename(base / hidden.name[1:]), descriptor)


def _remove_if_left(folder: Path) -> None:
    # Only a killed process leaves a lock file that nobody holds.
    with contextlib.suppress(OSError):
        descriptor = _lock(folder / _LOCK)
        if descriptor is not None:
            _remove(folder, descriptor)


def _lock(path: Path, flags: int = 0) -> int | None:
    """Return the descriptor of a locked file; None if another process has it, or cannot."""
    try:
        import fcntl
    except ImportError:  # Windows: folders of killed processes stay
        return None
    descriptor = os.open(path, os.O_RDWR | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(path: Path, descriptor: int | None) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if descriptor is not None:
        os.close(descriptor)
