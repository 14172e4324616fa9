"""How much work a pruning pass is worth: what a quicker one leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Effort = Literal["quick", "normal", "careful", "thorough"]
THOROUGH: Effort = "thorough"

AUTO = "auto"
_TRIED = ("block-obs", "wanda", "l2")
"""What "auto" stands for; the first is the one that is meant where nothing is tried."""


@dataclass(frozen=True)
class Thoroughness:
    """What an effort stands for.

    Args:
        tried: of the first so many samples options are fitted and scored; 0 for all.
        trial_copies: copies of each image that options are fitted to; -1 for the usual number.
        fitted: the first so many samples are what is left fitted to; 0 for all.
        criteria: that "auto" tries, by number.
        near: widths of a group close to all of it that are tried.
        far: widths further away that are tried.
        finalists: choices that are made into fitted models, of which the best is kept.
        rectify: whether errors that a Relu takes away are let be.
        pairs: rounds in which two layers around an activation are fitted together; 0 for none.
        pair_samples: samples that those see, at most; 0 for all.
        refits: whether layers are fitted again to all samples where the pass says so.
    """

    tried: int = 0
    trial_copies: int = -1
    fitted: int = 0
    criteria: int = len(_TRIED)
    near: int = 12
    far: int = 5
    finalists: int = 3
    rectify: bool = True
    pairs: int = 4
    pair_samples: int = 0
    refits: bool = True


_SPARING = Thoroughness(tried=256, trial_copies=1, criteria=2, finalists=1, pairs=2)

EFFORTS: dict[Effort, Thoroughness] = {
    "quick": Thoroughness(
        tried=128, trial_copies=1, fitted=256, criteria=1, near=6, far=3,
        finalists=1, rectify=False, pairs=0, refits=False,
    ),
    "normal": replace(_SPARING, fitted=400, pairs=1, pair_samples=256, refits=False),
    "careful": _SPARING,
    "thorough": Thoroughness(),
}  # fmt: skip
"""Normal and careful choose by the same scores, which are taken once for both."""


def criteria_of(criterion: str, effort: Effort) -> tuple[str, ...]:
    """Return the names of the criteria that are tried."""
    return _TRIED[: EFFORTS[effort].criteria] if criterion == AUTO else (criterion,)
