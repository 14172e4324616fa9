"""Timing a compiled model against its original."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphopt.runtime import race

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from graphopt.runtime import Session

    Feed = Mapping[str, np.ndarray[Any, Any]]

NEVER_SLOWER = 0.97
"""Ratio to the original below which a result is slower; closer is noise on a shared machine."""

NO_GAIN = 1.0
"""Ratio below which integers are not worth what they cost in accuracy."""

_CLEAR_ROUNDS = 5
_CLEAR_SLOW_ROUNDS = 2
_SLOW_MS = 10.0
"""Inferences that take longer are timed so exactly that fewer rounds settle a race."""


@dataclass(frozen=True)
class Timed:
    """One interleaved race of two models, batch as fed.

    ``ratio`` is before / after: the median of the rounds; ``low`` and ``high`` enclose nine tenths
    of them, ``ratio_of_minima`` is what the least disturbed rounds say.
    """

    before_ms: float
    after_ms: float
    ratio: float
    low: float
    high: float
    ratio_of_minima: float
    rounds: int
    threads: int

    def is_below(self, ratio: float) -> bool:
        """Whether both the median and the minima say that the result is not that fast."""
        return max(self.ratio, self.ratio_of_minima) < ratio


def time_against(
    before: Session,
    after: Session,
    feeds: Sequence[Feed],
    *,
    seconds: float = 0.12,
    lost: float = math.inf,
) -> Timed:
    """Race two models on the same feeds, warm and interleaved.

    Args:
        before: the model to compare with.
        after: the one to judge.
        feeds: inputs, by turns.
        seconds: how long, about.
        lost: end as soon as three quarters of the rounds have had ``after`` at this ratio or above.
    """
    contenders = {"before": before, "after": after}
    result = race(
        contenders,
        feeds,
        seconds=seconds,
        min_rounds=9,
        patience=2 * seconds,
        is_clear=lambda samples: _is_clear(samples, lost),
    )
    ratios = sorted(
        b / a for b, a in zip(result.samples["before"], result.samples["after"], strict=True)
    )
    edge = len(ratios) // 20
    return Timed(
        before_ms=result.timings["before"].median_ms,
        after_ms=result.timings["after"].median_ms,
        ratio=statistics.median(ratios),
        low=ratios[edge],
        high=ratios[-1 - edge],
        ratio_of_minima=result.speedup_of_minima("after", "before"),
        rounds=len(ratios),
        threads=after.threads,
    )


def _is_clear(samples: Mapping[str, Sequence[float]], lost: float) -> bool:
    """Whether enough rounds have passed to say that ``after`` did not lose."""
    ratios = sorted(b / a for b, a in zip(samples["before"], samples["after"], strict=True))
    slow = min(map(min, samples.values())) > _SLOW_MS
    needed = _CLEAR_SLOW_ROUNDS if slow else _CLEAR_ROUNDS
    return len(ratios) >= needed and ratios[len(ratios) // 4] >= lost


def confirmed(
    before: Session, after: Session, feeds: Sequence[Feed], lost: float = NO_GAIN
) -> Timed:
    """Race two models, and again for longer where ``after`` seems to be below ``lost``."""
    timed = time_against(before, after, feeds, lost=lost)
    return time_against(before, after, feeds, seconds=0.5) if timed.is_below(lost) else timed
