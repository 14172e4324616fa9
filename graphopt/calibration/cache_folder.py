"""Where graphopt keeps what it need not measure again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the user's cache folder for graphopt; None when caching is off.

    ``GRAPHOPT_CACHE`` names it, and switches caching off when empty. Otherwise it is where the
    system keeps caches: ``XDG_CACHE_HOME``, ``~/Library/Caches`` or ``LOCALAPPDATA``.
    """
    chosen = os.environ.get("GRAPHOPT_CACHE")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    try:
        return _system_cache() / "graphopt"
    except RuntimeError:  # no home directory
        return None


def _system_cache() -> Path:
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():  # the specification ignores relative paths
        return xdg
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"
