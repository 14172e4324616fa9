"""What a search tries for the sake of size: weights stored in fewer bits than they run in.

Nothing of it costs speed: what is stored is expanded when the model is loaded. The more weights
have four bits the smaller the file and the larger the loss, nearly monotonously, so the share is
found by trying a few and then what lies between the last that holds and the first that does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.planner.joint.luck import with_expected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.planner.joint.candidates import Candidate, Made
    from graphopt.planner.joint.strategy import Rounds, Wanted

_STORING = "store-weights"
_SHARES = (0.0, 0.4, 0.7, 1.0)
_CLOSEST = 0.08
"""Shares nearer to each other than this are not told apart."""
_ROUNDS = 2
_PARTS = 3
_KINDS = 2
_OPTIONS = ("format=float16", "eight-bits=true", "exact=true", "smallest=64")


def stored(candidate: Candidate, share: float = 0.0, *, short: bool = False) -> Candidate:
    """Return a candidate with its weights stored in 8 bits, and a share of them in 4.

    Args:
        candidate: whose recipe has the pass `store-weights`.
        share: of the weights, 0 to 1.
        short: names inside are shortened too.
    """
    told = [f"{_STORING}.{option}" for option in _OPTIONS]
    told += [f"{_STORING}.four-bits={share:.3g}"] if share else []
    told += [f"{_STORING}.names=short"] if short else []
    bits = f"{100 * share:.3g} % in 4 bits" if share else "in 8 bits"
    return candidate.having(f"{candidate.label}, stored {bits}", *told)


def is_stored(candidate: Candidate) -> bool:
    """Return whether a candidate stores its weights in fewer bits than they run in."""
    return any(told.startswith(f"{_STORING}.format=") for told in candidate.overrides)


def most_stored(pruned: bool) -> int:
    """Return how many are made for the sake of size at most: of float, of integers, of pruned."""
    return (_KINDS + pruned) * (len(_SHARES) + _ROUNDS * (_PARTS - 1))


def storing_rounds(bases: Sequence[Candidate], wanted: Wanted, seen: Sequence[Made]) -> Rounds:
    """Yield what to make, round by round; is sent what came out of each.

    Args:
        bases: models to store smaller, of recipes that leave nothing to chance.
        wanted: says which models hold.
        seen: everything that was judged before.
    """
    found: dict[tuple[Candidate, float], Made] = {}
    batch = [(base, share) for base in bases for share in _SHARES]
    for _ in range(1 + _ROUNDS):
        if not batch:
            return
        results = yield [stored(base, share, short=True) for base, share in batch]
        found |= zip(batch, results, strict=True)
        judged = with_expected([*found.values(), *seen])
        kept = {key: wanted.is_accurate(m) for key, m in zip(found, judged, strict=False)}
        batch = [(base, share) for base in bases for share in _between(kept, base)]


def _between(kept: dict[tuple[Candidate, float], bool], base: Candidate) -> list[float]:
    """Return two shares between the largest that holds, with all below it, and the next."""
    shares = {share: holds for (of, share), holds in kept.items() if of == base}
    last: float | None = None
    for share in sorted(shares):
        if not shares[share]:
            if last is None or share - last <= _CLOSEST:
                return []
            step = (share - last) / _PARTS
            return [round(last + step * part, 3) for part in range(1, _PARTS)]
        last = share
    return []
