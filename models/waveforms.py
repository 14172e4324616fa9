"""Generate noisy waveforms of eight families, as a sensor with a coarse converter records them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Wave = Callable[[NDArray[np.float64]], NDArray[np.float64]]

FRAMES = 32
FRAME = 8  # consecutive samples that make one row of the model's input
LEVELS = 16  # steps of the converter per unit of amplitude
CLIP = 2.0  # largest magnitude that the converter holds
NOISE = (0.05, 0.4)  # standard deviation of the noise, drawn per series


def _chirp(cycles: NDArray[np.float64], growth: float) -> NDArray[np.float64]:
    """Return a sine whose frequency changes linearly by the factor ``growth`` over the series."""
    time = np.linspace(0, 1, len(cycles))
    start: np.float64 = cycles[0]
    return np.sin(2 * np.pi * (start + (cycles - start) * (1 + (growth - 1) * time / 2)))


def _tremolo(cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a sine whose amplitude swells once in four cycles."""
    return np.sin(2 * np.pi * cycles) * (0.55 + 0.45 * np.sin(np.pi * cycles / 2))


CLASSES: dict[str, Wave] = {
    "sine": lambda cycles: np.sin(2 * np.pi * cycles),
    "square": lambda cycles: np.sign(np.sin(2 * np.pi * cycles)),
    "triangle": lambda cycles: 4 * np.abs(cycles % 1 - 0.5) - 1,
    "sawtooth": lambda cycles: 2 * (cycles % 1) - 1,
    "pulse": lambda cycles: np.where(cycles % 1 < 0.2, 1.0, -0.25),
    "rising chirp": lambda cycles: _chirp(cycles, 1.8),
    "falling chirp": lambda cycles: _chirp(cycles, 0.5),
    "tremolo": _tremolo,
}


def generate(
    count: int, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return ``count`` independent series and the index of the family that drew each.

    Frequency (4 to 10 cycles per series), phase, amplitude (0.6 to 1.2), offset (-0.2 to 0.2) and
    the standard deviation of the Gaussian noise are drawn uniformly for each series.

    Returns:
        Series float32 [count, 32, 8], multiples of 1/16 within [-2, 2], and classes int64 [count].
    """
    waves = list(CLASSES.values())
    length = FRAMES * FRAME
    labels = random.integers(0, len(waves), count)
    frequency, phase = random.uniform(4, 10, (count, 1)), random.uniform(0, 1, (count, 1))
    cycles = frequency * np.arange(length) / length + phase
    clean = np.stack([waves[label](row) for label, row in zip(labels, cycles, strict=True)])
    clean *= random.uniform(0.6, 1.2, (count, 1))
    offset = random.uniform(-0.2, 0.2, (count, 1))
    noise = random.standard_normal(clean.shape) * random.uniform(*NOISE, (count, 1))
    recorded = np.round(np.clip(clean + offset + noise, -CLIP, CLIP) * LEVELS) / LEVELS
    return recorded.astype(np.float32).reshape(count, FRAMES, FRAME), labels
