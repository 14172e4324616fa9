"""How many workers this machine carries: its cores, and the memory that is free now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

BARE_WORKER_BYTES = 256 << 20
"""What a worker takes before it has a model: Python, onnx, onnxruntime and numpy, with room."""

_PROC = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores this process may use; at least 1."""
    if sys.platform == "linux":
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    quota = _cgroup_cores()
    return max(1, found if quota is None else min(found, quota))


def free_bytes() -> int | None:
    """Return the memory that could be had now, without swapping; None where it is not known.

    The machine's own, or what is left of the limit of this container (cgroup v2).
    """
    found = [each for each in (_free_of_machine(), _free_of_cgroup()) if each is not None]
    return min(found, default=None)


def affordable_workers(peak_bytes: int, at_most: int | None = None) -> int:
    """Return how many workers to run side by side; at least 1.

    Args:
        peak_bytes: what the largest task takes in a worker, beyond a bare one.
        at_most: the number that the user states, which may be above that of the cores.
    """
    wanted = max(1, cores() if at_most is None else at_most)
    free = free_bytes()
    if free is None:
        return wanted
    return max(1, min(wanted, free // (BARE_WORKER_BYTES + peak_bytes)))


def _free_of_machine() -> int | None:
    text = _text(_PROC)
    if text is not None:
        for line in text.splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    try:  # what other systems say: half of what there is, as some of it is in use
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return None


def _free_of_cgroup() -> int | None:
    limit, used = _text(_CGROUP / "memory.max"), _text(_CGROUP / "memory.current")
    if limit is None or used is None or not limit.strip().isdigit():
        return None
    return max(0, int(limit) - int(used) + _cached(_text(_CGROUP / "memory.stat") or ""))


def _cached(stat: str) -> int:
    """Return the bytes of the page cache that the system takes back when they are needed."""
    for line in stat.splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _cgroup_cores() -> int | None:
    quota, _, period = (_text(_CGROUP / "cpu.max") or "").strip().partition(" ")
    return int(quota) // int(period) if quota.isdigit() and period.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
