"""Mirrored and moved copies of images, where there are few to fit to.

Fits aim at what the original computes, whatever it is given. So a copy needs no label, and teaches
something as long as it looks like what the model will see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

_SMALLEST = 16
"""Pixels along each edge of what is taken for an image."""
_MOVE = 14
"""A copy is moved by at most one part of so many of each edge."""
ENOUGH = 700
"""Images beyond which no copies are made by default: a fit has seen what there is to see."""
MOST = 3


def usual_copies(feed: Feed, fitted: int) -> int:
    """Return how many copies are made of each image by default.

    Args:
        feed: a sample.
        fitted: how many samples are fitted to.

    Returns:
        as many as it takes to reach ``ENOUGH`` images, three at most; 0 for anything but one
        input of three channels and two edges.
    """
    if len(feed) != 1 or not fitted or not all(map(_is_image, feed.values())):
        return 0
    return min(MOST, max(0, -(-ENOUGH // fitted) - 1))


def image_copies(feed: Feed, count: int, seed: int, number: int) -> Iterator[dict[str, Array]]:
    """Yield altered copies of a sample; none where it is no image.

    Every other copy is mirrored from left to right, beginning with the first; all but the first
    are moved as well, by up to a fourteenth of each edge, with what is missing reflected.

    Args:
        feed: by input, float [1, channels, height, width].
        count: how many.
        seed: of the choice.
        number: of the sample.
    """
    if len(feed) != 1 or not all(map(_is_plane, feed.values())):
        return
    ((name, values),) = feed.items()
    for copy in range(count):
        random = np.random.default_rng((seed, number, copy))
        made = values[..., ::-1] if copy % 2 == 0 else values
        yield {name: np.ascontiguousarray(_moved(made, random) if copy else made)}


def _is_plane(values: Array) -> bool:
    fits = values.ndim == 4 and min(values.shape[2:]) >= _SMALLEST
    return fits and values.dtype.kind == "f"


def _is_image(values: Array) -> bool:
    return _is_plane(values) and values.shape[1] == 3


def _moved(values: Array, random: np.random.Generator) -> Array:
    height, width = values.shape[2:]
    down, right = max(1, height // _MOVE), max(1, width // _MOVE)
    wide = np.pad(values, ((0, 0), (0, 0), (down, down), (right, right)), mode="reflect")
    top, left = int(random.integers(0, 2 * down + 1)), int(random.integers(0, 2 * right + 1))
    return wide[:, :, top : top + height, left : left + width]
