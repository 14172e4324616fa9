"""Freed memory goes back to the system at once, where its allocator would keep it."""

from __future__ import annotations

import contextlib
import sys

_M_MMAP_THRESHOLD = -3
"""mallopt(3): from which size on a block is mapped by itself, and unmapped when it is freed."""
_BYTES = 1 << 16


def return_freed_memory() -> None:
    """Let glibc map every block of 64 KiB and more by itself.

    Otherwise it raises that bound to the largest block that was freed, up to 32 MiB, and weights
    that were freed stay in a heap that they have torn into pieces: a fifth of what a compile of a
    large model held.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BYTES)
