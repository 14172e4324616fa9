"""Scores that survive: a search that was killed, or is asked for more, goes on where it was."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from graphopt.calibration.cache_folder import cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.ir import Graph
    from graphopt.planner.pruning.scores import Scorer


@dataclass
class ScoreBook:
    """Divergences by site and label, appended to a file as they are found.

    Args:
        scorer: finds what is not known.
        path: of the file; None to keep nothing.
    """

    scorer: Scorer
    path: Path | None
    _known: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                entry = _entry(line)
                if entry is not None:
                    site, label, loss = entry
                    self._known[site, label] = loss

    @property
    def known(self) -> int:
        """How many scores there are."""
        return len(self._known)

    def divergence(self, site: str, label: str, graph: Graph) -> float:
        """Return the divergence of an option, from the file where it is there."""
        key = (site, label)
        if key not in self._known:
            self._known[key] = self.scorer.divergence(graph)
            self._append(json.dumps([site, label, self._known[key]]))
        return self._known[key]

    def _append(self, line: str) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError:
            self.path = None  # a full or read-only disk costs the resumption, not the search


def score_path(*keys: str) -> Path | None:
    """Return where the scores of a search are kept; None where nothing is cached.

    Args:
        *keys: hashes of everything that a score depends on.
    """
    folder = cache_folder()
    return None if folder is None else folder / "pruning" / f"{'-'.join(keys)}.jsonl"


def _entry(line: str) -> tuple[str, str, float] | None:
    """Return what a line says; None where it was cut off when the search was killed."""
    try:
        site, label, loss = json.loads(line)
    except ValueError:
        return None
    return str(site), str(label), float(loss)
