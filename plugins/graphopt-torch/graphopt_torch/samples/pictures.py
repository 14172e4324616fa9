"""Is an input a picture, beyond doubt? Only then may it be mirrored and moved unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.passes.prune.copies import usual_copies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, Any]

_ALIKE = 0.5
"""Correlation of neighbouring pixels from which on there is something to see; photographs have 0.9
and more, noise 0."""


def are_pictures(feeds: Sequence[Mapping[str, Array]]) -> bool:
    """Whether samples are colour pictures.

    A model with one input of three channels and two edges, as pruning takes for a picture (see
    ``graphopt.passes.prune.copies``), whose neighbouring pixels are alike along both edges.

    Args:
        feeds: some samples; none is no picture.
    """
    if not feeds or not all(usual_copies(feed, 1) for feed in feeds):
        return False
    pictures = [values for feed in feeds for values in feed.values()]
    return all(float(np.mean([_likeness(p, a) for p in pictures])) >= _ALIKE for a in (2, 3))


def _likeness(values: Array, axis: int) -> float:
    """Return the correlation of neighbours along an axis; 0 where nothing varies."""
    wide = values.astype(np.float64)
    apart = wide - wide.mean(axis=(2, 3), keepdims=True)
    power = float(np.square(apart).mean())
    step = float(np.square(np.diff(apart, axis=axis)).mean())
    # E (a - b)^2 = 2 (variance - covariance)
    return 1.0 - step / (2.0 * power) if power > 0.0 else 0.0
