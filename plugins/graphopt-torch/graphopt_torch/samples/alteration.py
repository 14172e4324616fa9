"""Mirror, move, disturb and mix the samples of a batch, as drawn from given random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt_torch.samples.storage import channel_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt_torch.samples.augmentation import Augmentation

    Array = np.ndarray[Any, Any]

SMALLEST = 16
"""Pixels along each edge of what is taken for a picture."""


def plane_axes(shape: Sequence[int]) -> tuple[int, int] | None:
    """Return the axes of height and width of a sample with a batch axis; None for no picture."""
    channels = channel_axis(shape)
    if channels is None:
        return None
    found = (2, 3) if channels == 1 else (1, 2)
    return found if min(shape[axis] for axis in found) >= SMALLEST else None


def altered(
    batch: Mapping[str, Array],
    how: Augmentation,
    deviations: Mapping[str, Array],
    random: np.random.Generator,
) -> dict[str, Array]:
    """Return a batch with its samples altered; all inputs of a sample in the same way.

    Args:
        batch: by input, [samples, *shape of a sample].
        how: what is done, in the order flip, crop, noise, mixup. Integers are left alone, and
            what is no picture is neither mirrored nor moved.
        deviations: of each channel, by input, in the shape that broadcasts over a sample.
        random: what all choices are drawn from; always the same number of draws for equal shapes.
    """
    count = len(next(iter(batch.values())))
    mirrored = random.random(count) < 0.5
    moves = random.integers(-how.crop, how.crop + 1, (count, 2))
    shares = random.beta(how.mixup, how.mixup, count) if how.mixup else np.ones(count)
    others = random.permutation(count)
    made = {}
    for name, values in batch.items():
        if values.dtype.kind != "f":
            made[name] = values
            continue
        axes = plane_axes(values.shape[1:])
        if axes is not None and how.flip:
            values = _mirrored(values, mirrored, axes[1])
        if axes is not None and how.crop:
            values = _moved(values, moves, axes)
        if how.noise:
            values = _disturbed(values, how.noise * deviations[name], random)
        made[name] = _mixed(values, shares, others) if how.mixup else values
    return made


def _mirrored(values: Array, which: Array, width: int) -> Array:
    made = values.copy()
    made[which] = np.flip(values[which], axis=width + 1)
    return made


def _moved(values: Array, moves: Array, axes: tuple[int, int]) -> Array:
    """Return each sample moved by its (down, right), with what is missing reflected."""
    made = np.empty_like(values)
    for sample, (down, right) in enumerate(moves):
        rows = _reflected(values.shape[axes[0] + 1], int(down))
        columns = _reflected(values.shape[axes[1] + 1], int(right))
        made[sample] = values[sample].take(rows, axis=axes[0]).take(columns, axis=axes[1])
    return made


def _reflected(size: int, by: int) -> Array:
    """Return where each pixel of an edge comes from; the outermost one is not repeated."""
    period = max(2 * (size - 1), 1)
    places = (np.arange(size) + by) % period
    return np.minimum(places, period - places)


def _disturbed(values: Array, deviation: Array, random: np.random.Generator) -> Array:
    noise = random.standard_normal(values.shape, dtype=np.float32) * deviation
    return np.asarray(values + noise, dtype=values.dtype)


def _mixed(values: Array, shares: Array, others: Array) -> Array:
    share = shares.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return np.asarray(share * values + (1 - share) * values[others], dtype=values.dtype)
