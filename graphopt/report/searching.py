"""What is said of a search: every model that was made, and which of them was picked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScoreRecord:
    """How good a model is on validation samples, with a 95 % confidence interval.

    ``value`` is in ``unit`` of ``metric``, larger is better. ``drop`` is what it lost against the
    original on the same samples, in the same unit, with the interval of that difference, which is
    narrower than that of either. ``expected`` is what a search expects it to lose on other samples,
    given what all models lost on these; None where one model was judged alone.
    """

    metric: str
    unit: str
    value: float
    low: float
    high: float
    samples: int
    drop: float
    drop_low: float
    drop_high: float
    expected: float | None = None


@dataclass(frozen=True)
class PointRecord:
    """One model of a search.

    ``status`` is "front" where no other model is better in everything, "dominated", "too lossy",
    "over budget", "stopped early" (judged on a part of the samples, and left there) or "failed".
    ``settings`` are the overrides of the recipe that made it. ``speedup`` is against the original;
    ``energy`` joules, or a ratio to the original's where joules are not known. ``file`` is the name
    of the saved model; ``reused`` says that an earlier run had made it.
    """

    key: str
    label: str
    settings: tuple[str, ...]
    status: str
    score: ScoreRecord | None = None
    latency_ms: float | None = None
    latency_source: str = "estimated"
    speedup: float | None = None
    size_bytes: int | None = None
    ram_bytes: int | None = None
    energy: float | None = None
    seconds: float = 0.0
    file: str | None = None
    chosen: bool = False
    why: str = ""
    reused: bool = False


@dataclass(frozen=True)
class SearchRecord:
    """A whole search: what was asked for, what is guaranteed, what was tried.

    ``budgets`` are as the user stated them, by option. ``stopped`` says why it ended.
    """

    budgets: dict[str, str]
    effort: str
    guarantee: str
    calibration_samples: int
    validation_samples: int
    original: PointRecord
    points: tuple[PointRecord, ...]
    stopped: str
    workers: int
    executor: str
    seconds: float
