"""The user's data, divided: no sample is both calibrated on and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.calibration.base import Dataset
    from graphopt.pipeline.validation import Validation
    from graphopt.recipe import Calibration

_MOST = 2000
"""Samples that are set aside unless more are asked for."""
_ENOUGH = 500
"""Where fewer than this would be left to judge on, half of the samples are."""


@dataclass(frozen=True)
class Samples:
    """What ranges are measured on, and what the result is checked and judged on."""

    calibration: Dataset
    held_out: Dataset
    fitting: Dataset
    """What layers are fitted to after pruning, and judged by."""
    validation: Validation | None = None
    """What accuracy is judged on; None where nobody asked for that."""
    set_aside: int = 0
    """How many of the samples are not calibrated on so that accuracy can be judged on them."""
    extra: Dataset | None = None
    """What passes that train learn from beside `fitting`, and nothing else sees."""


def divided(
    dataset: Dataset,
    calibration: Calibration,
    *,
    judged: Dataset | None = None,
    judges: bool = False,
    fits: bool = False,
) -> Samples:
    """Return a dataset in its parts.

    Args:
        dataset: all samples.
        calibration: says how many are for what.
        judged: other samples to judge accuracy on, where there are some.
        judges: whether accuracy is judged at all.
        fits: whether layers will be fitted to samples.

    Raises:
        DataError: G213, nothing would be left to calibrate with.
    """
    from graphopt.calibration.dataset import split, take
    from graphopt.pipeline.validation import Validation

    wanted = max(calibration.samples, calibration.fitted if fits else 0)
    count = calibration.set_aside
    if count is None:
        count = _to_spare(len(dataset), wanted) if judges and judged is None else 0
    if count:
        rest, aside = split(dataset, count)
        kept = take(aside, max(1, _held_out(calibration, dataset)))
    else:
        rest, kept = split(dataset, _held_out(calibration, dataset))
        aside = None
    ranges, fitting = take(rest, calibration.samples), take(rest, calibration.fitted)
    chosen = judged if judged is not None else aside
    validation = None
    if judges and chosen is not None:
        validation = Validation(take(chosen, _MOST), ranges, fitting if fits else None)
    return Samples(ranges, kept, fitting, validation, count)


def _held_out(calibration: Calibration, dataset: Dataset) -> int:
    # A handful of samples is better spent on ranges than on checking.
    return min(calibration.held_out, len(dataset) // 4)


def _to_spare(total: int, wanted: int) -> int:
    """Return how many samples to set aside: what is not wanted, but half where those are few."""
    return min(max(total - wanted, min(total // 2, _ENOUGH)), _MOST)
