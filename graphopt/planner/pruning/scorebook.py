"""What is known of options: divergences, units and prices that survive the search that found them.

None of it depends on the goal. So a search that was killed goes on where it was, and one that asks
for more, for another metric or another target tries nothing again that it need not. Lines are
appended whole: searches in several processes may share a file, and write the same where they meet.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.cache_folder import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.planner.pruning.scores import Scorer

    Array = np.ndarray[Any, Any]

_SCORE, _UNITS, _PRICE = "score", "units", "price"


class ScoreBook:
    """Facts by kind, site and label, appended to a file as they are found.

    Args:
        scorer: finds divergences that are not known.
        path: of the file; None to keep nothing.
    """

    def __init__(self, scorer: Scorer, path: Path | None) -> None:
        self.scorer = scorer
        self.path = path
        self._known: dict[tuple[str, ...], Any] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # it was cut off when the search was killed
                    *key, value = json.loads(line)
                    self._known.setdefault(tuple(key), value)

    @property
    def known(self) -> int:
        """How many facts there are."""
        return len(self._known)

    def divergence(self, site: str, label: str, make: Callable[[], Graph]) -> float:
        """Return the divergence of an option, from the file where it is there.

        Args:
            site: where something is changed.
            label: what is done there.
            make: makes the changed graph, if it has to be scored.
        """
        key = (_SCORE, site, label)
        if key not in self._known:
            self._note(key, self.scorer.divergence(make()))
        return float(self._known[key])

    def units(
        self, site: str, labels: Sequence[str], make: Callable[[], Sequence[Array]]
    ) -> tuple[Array, ...]:
        """Return which units stay, bool [units] for each label; all are made where one is missing.

        Args:
            site: the group.
            labels: one for each number of units and criterion.
            make: makes them all.
        """
        keys = [(_UNITS, site, label) for label in labels]
        if any(key not in self._known for key in keys):
            for key, keep in zip(keys, make(), strict=True):
                packed = np.packbits(keep).tobytes().hex()
                self._note(key, [len(keep), packed])
        return tuple(map(_unpacked, (self._known[key] for key in keys)))

    def prices(
        self, site: str, label: str, by: str, make: Callable[[], Mapping[str, float]]
    ) -> Mapping[str, float]:
        """Return what an option saves, by metric.

        Args:
            site: where something is changed.
            label: what is done there.
            by: all that says what a figure is: the target and the cost model.
            make: finds out.
        """
        key = (_PRICE, site, label, by)
        if key not in self._known:
            self._note(key, dict(make()))
        found: Mapping[str, float] = self._known[key]
        return found

    def _note(self, key: tuple[str, ...], value: Any) -> None:
        self._known[key] = value
        if self.path is None:
            return
        line = json.dumps([*key, value]) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write of a whole line: what others append meanwhile is not torn apart.
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())
        except OSError:
            self.path = None  # a full or read-only disk costs the resumption, not the search


def score_path(key: str) -> Path | None:
    """Return where what is known of options is kept; None where nothing is cached.

    Args:
        key: hash of everything that scores and units depend on.
    """
    folder = cache_folder()
    return None if folder is None else folder / "pruning" / f"{key}.jsonl"


def _unpacked(fact: Any) -> Array:
    size, packed = fact
    bits = np.frombuffer(bytes.fromhex(packed), np.uint8)
    return np.unpackbits(bits, count=size).astype(bool)
