"""What is said of accuracy: how much of it was kept, judged on which samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.report.searching import ScoreRecord


@dataclass(frozen=True)
class ValidationRecord:
    """How the accuracy of the result was judged, where a largest drop was stated.

    ``samples`` were judged on; none of them is among the ``calibration_samples`` that ranges were
    measured on or layers fitted to, by content: ``dropped`` that were are left out. ``stated`` is
    the drop as the user wrote it, ``allowed`` the same in the unit of the metric, ``original`` what
    the original reaches. ``certain`` says whether the whole interval of the drop is allowed, not
    only the drop that was measured.
    """

    origin: str
    samples: int
    dropped: int
    calibration_samples: int
    digest: str
    stated: str
    allowed: float
    original: float
    score: ScoreRecord
    kept: bool
    certain: bool
    guarantee: str
