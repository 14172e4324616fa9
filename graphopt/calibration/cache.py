"""Statistics on disk, so that the same model, data and observer are run only once."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphopt.calibration.base import RangeStatistics
from graphopt.calibration.collect import Collected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphopt.calibration.base import Observer


@dataclass(frozen=True)
class StatisticsCache:
    """Ranges by (model, data, observer, tensors, version); one JSON file each.

    A cache never makes a compile fail: what cannot be read is computed again, what cannot be
    written is not kept.

    Args:
        folder: where the files are; None keeps nothing.
        version: of graphopt; statistics of another version are not used.
    """

    folder: Path | None
    version: str

    def key(
        self, model_hash: str, data_digest: str, observer: Observer, names: Iterable[str]
    ) -> str:
        """Return the name under which one run is kept; the order of ``names`` does not matter."""
        parts = [self.version, model_hash, data_digest, repr(observer), sorted(set(names))]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=20).hexdigest()

    def load(self, key: str) -> Collected | None:
        """Return what was stored under a key; None when there is nothing usable."""
        if self.folder is None:
            return None
        try:
            return _decode(json.loads(self._path(self.folder, key).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def store(self, key: str, collected: Collected) -> None:
        """Keep the result of one run; the file appears whole or not at all."""
        if self.folder is None:
            return
        path = self._path(self.folder, key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, json.dumps(asdict(collected), allow_nan=False))

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / "statistics" / f"{key}.json"


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


def _write_whole(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _decode(content: dict[str, Any]) -> Collected:
    """Return the statistics in a parsed file; raises ValueError, TypeError or KeyError if wrong."""
    ranges = {name: _decode_range(fields) for name, fields in content["ranges"].items()}
    skipped = {str(name): str(reason) for name, reason in content["skipped"].items()}
    return Collected(ranges, skipped)


def _decode_range(fields: dict[str, Any]) -> RangeStatistics:
    low, high = float(fields["low"]), float(fields["high"])
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError("not a range")
    return RangeStatistics(low, high, int(fields["samples"]), str(fields["observer"]))
