"""How long a search will still take: what is to come, at the pace of what has been made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.planner.joint import is_stored, most_fitted, most_polished, most_pruned, most_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from graphopt.planner.joint import Candidate, Effort, Wanted

FORMAT, PRUNED, CAREFUL, STORED = "format", "pruned", "pruned with care", "stored"
_USUAL = {FORMAT: 1.0, STORED: 1.0, PRUNED: 2.5, CAREFUL: 6.0}
"""How much longer than a format each kind takes, before one has been made."""
_LIKE = {
    FORMAT: (STORED, PRUNED, CAREFUL),
    STORED: (FORMAT, PRUNED, CAREFUL),
    PRUNED: (CAREFUL, FORMAT, STORED),
    CAREFUL: (PRUNED, FORMAT, STORED),
}
"""Which other kind tells most of one that has not been made."""
_FIRST = 2.0
"""How much longer the first model takes that is pruned: the others find what it measured."""
_FEWEST = 1e-3
_RACE_SECONDS = 3.0
_CAREFUL_OPTIONS = {"prune-channels.effort=careful", "prune-channels.effort=thorough"}


class Forecast:
    """What a search plans, and how long each kind of candidate took so far.

    Args:
        workers: candidates that are made at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = max(workers, 1)
        self.races = 0
        self.again = 0.0
        """Seconds that the last of all, whose placement is timed, will take."""
        self._planned: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = {}

    def plan(
        self, formats: int, wanted: Wanted, effort: Effort, *, small: bool, timed: bool
    ) -> None:
        """Take note of how much is to come, at most.

        Args:
            formats: whole models.
            wanted: decides what is pruned.
            effort: how much is pruned.
            small: whether the smallest files are looked for.
            timed: whether models are raced on this machine, twice.
        """
        pruned, careful = most_fitted(wanted, effort), 0
        if wanted.max_drop is not None:
            pruned, careful = most_pruned(effort), most_polished(effort)
        self._planned = {
            FORMAT: formats,
            PRUNED: pruned - careful,
            CAREFUL: careful,
            STORED: most_stored(pruned > 0) if small else 1,
        }
        self.races = 2 if timed else 0

    def took(self, candidate: Candidate, seconds: float) -> None:
        """Take note of how long a candidate took in its worker."""
        self._seconds.setdefault(kind_of(candidate), []).append(seconds)

    @property
    def longest(self) -> float:
        """Seconds that a candidate took at most: one that is begun is finished."""
        return max((max(each) for each in self._seconds.values()), default=0.0)

    def remaining(self, made: Iterable[Candidate], running: float = 0.0) -> float:
        """Return the seconds that are left, about.

        Args:
            made: all that has been made, or taken from an earlier search.
            running: seconds that those which are being made have had, together.
        """
        left = dict(self._planned)
        for candidate in made:
            kind = kind_of(candidate)
            left[kind] = max(left.get(kind, 0) - 1, 0)
        work = sum(count * self._usual(kind) for kind, count in left.items())
        alone = self.races * _RACE_SECONDS + self.again
        return max(work - running, 0.0) / self.workers + alone

    def _usual(self, kind: str) -> float:
        for other in (kind, *_LIKE[kind]):
            seen = self._seconds.get(other)
            if seen:
                mean = max(_mean(other, seen), _FEWEST)
                return mean * _USUAL[kind] / _USUAL[other]
        return _USUAL[kind]


def _mean(kind: str, seen: Sequence[float]) -> float:
    """Return the seconds of one more; of what is pruned the first does not count fully."""
    if kind != PRUNED:
        return sum(seen) / len(seen)
    rest = seen[1:] or (seen[0] / _FIRST,)
    return sum(rest) / len(rest)


def kind_of(candidate: Candidate) -> str:
    """Return which kind of work a candidate is."""
    if is_stored(candidate):
        return STORED
    if candidate.is_pruned:
        return CAREFUL if _CAREFUL_OPTIONS & {*candidate.overrides} else PRUNED
    return FORMAT
