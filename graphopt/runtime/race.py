"""Timing models against each other: interleaved, warm, by medians."""

from __future__ import annotations

import math
import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from graphopt.runtime.session import Session

    Feed = Mapping[str, np.ndarray[Any, Any]]


LEAST_ROUNDS = 3
"""Fewer have no median that one disturbed round could not be."""
_SLOW = 0.01
"""Seconds of a first inference above which another cannot be so short as to need repeating."""


@dataclass(frozen=True)
class Timing:
    """Latency of one contender, in milliseconds per inference."""

    median_ms: float
    min_ms: float
    rounds: int


@dataclass(frozen=True)
class RaceResult:
    """What a race measured; ratios are against the named contender in the same rounds."""

    timings: dict[str, Timing]
    samples: dict[str, tuple[float, ...]]

    def speedup(self, name: str, base: str) -> float:
        """Return how many times faster ``name`` is than ``base``: median of per-round ratios."""
        pairs = zip(self.samples[base], self.samples[name], strict=True)
        return statistics.median(b / n for b, n in pairs)

    def speedup_of_quartiles(self, name: str, base: str) -> float:
        """Return the ratio of the lower quartiles: disturbed rounds are left out, luck too."""
        return _lower_quartile(self.samples[base]) / _lower_quartile(self.samples[name])

    def speedup_of_minima(self, name: str, base: str) -> float:
        """Return the ratio of the fastest rounds, which background load disturbs least."""
        return min(self.samples[base]) / min(self.samples[name])


def _lower_quartile(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 4]


def race(
    contenders: Mapping[str, Session],
    feeds: Sequence[Feed],
    *,
    seconds: float = 1.0,
    min_rounds: int = 7,
    max_rounds: int = 200,
    patience: float = math.inf,
    is_clear: Callable[[Mapping[str, Sequence[float]]], bool] = lambda _: False,
) -> RaceResult:
    """Run all contenders in turn, round by round, for about ``seconds`` in total.

    A round times every contender once, over enough inferences (about 2 ms) for the clock. The order
    is shuffled, with a fixed seed, and fast contenders run once untimed before they are timed, so
    that none profits from whose caches it finds. After ``patience`` seconds ``LEAST_ROUNDS`` are
    enough: what takes so long is not lost in the clock's noise. ``is_clear`` is shown the samples
    after every round, in milliseconds, and may end the race.
    """
    repeats = {name: _warm_up(session, feeds[0]) for name, session in contenders.items()}
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    shuffled = random.Random(0)  # noqa: S311  (an order, not a secret)
    started = time.perf_counter()
    for number in range(max_rounds):
        passed = time.perf_counter() - started
        if passed > (seconds if number >= min_rounds else patience) and number >= LEAST_ROUNDS:
            break
        feed = feeds[number % len(feeds)]
        shuffled.shuffle(names)
        for name in names:
            samples[name].append(_time(contenders[name], feed, repeats[name]))
        if is_clear(samples):
            break
    timings = {name: Timing(statistics.median(s), min(s), len(s)) for name, s in samples.items()}
    return RaceResult(timings, {name: tuple(s) for name, s in samples.items()})


def _warm_up(session: Session, feed: Feed) -> int:
    """Run a few times; return how many inferences make one measurable sample."""
    started = time.perf_counter()
    session.run(feed)
    once = time.perf_counter() - started
    if once < _SLOW:
        started = time.perf_counter()
        session.run(feed)
        once = max(time.perf_counter() - started, 1e-7)
    return int(min(max(0.002 / once, 1), 200))


def _time(session: Session, feed: Feed, repeats: int) -> float:
    run, inputs = session.native.run, dict(feed)
    if repeats > 1:
        # An inference of 2 ms and more fills the caches itself.
        run(None, inputs)
    started = time.perf_counter()
    for _ in range(repeats):
        run(None, inputs)
    return (time.perf_counter() - started) / repeats * 1e3
