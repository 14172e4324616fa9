"""Random images with the statistics of photographs: overlapping leaves, and noise of power laws.

Dead leaves (Lee, Mumford, Huang 2001, "Occlusion models for natural images") have edges, flat
regions and objects of all sizes; noise with the amplitude 1/f^a has textures. Networks treat both
much more like photographs than white noise (Baradad et al. 2021, "Learning to see by looking at
noise").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_LEAVES = 40
_NOISE_ONLY = 0.25
"""Share of images without leaves."""


def draw(random: np.random.Generator, channels: int, height: int, width: int) -> Array:
    """Return one image, float64 [channels, height, width], of mean 0 and power 1 on average."""
    exponent = random.uniform(0.3, 1.8)
    texture = noise(random, channels, height, width, exponent)
    share = 1.0 if random.uniform() < _NOISE_ONLY else random.beta(0.7, 1.5)
    image = np.sqrt(share) * texture
    if share < 1.0:
        image = image + np.sqrt(1.0 - share) * leaves(random, channels, height, width)
    contrast = np.exp(random.normal(0.0, 0.35))
    return np.asarray(image * contrast + random.normal(0.0, 0.4, (channels, 1, 1)))


def frequencies(height: int, width: int) -> Array:
    """Return cycles per image of each coefficient of ``rfft2``, 1 for the mean."""
    rows, columns = np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width
    found: Array = np.hypot(rows[:, None], columns[None, :])
    found[0, 0] = 1.0
    return found


def noise(
    random: np.random.Generator, channels: int, height: int, width: int, exponent: float
) -> Array:
    """Return noise whose amplitude falls with the frequency f as f^-exponent, of power 1."""
    white = np.fft.rfft2(random.standard_normal((channels, height, width)))
    found = np.fft.irfft2(white * frequencies(height, width) ** -exponent, s=(height, width))
    power = np.square(found).mean()
    return np.asarray(found / np.sqrt(power) if power > 0 else found)


def leaves(random: np.random.Generator, channels: int, height: int, width: int) -> Array:
    """Return ellipses and rectangles that hide each other, shaded, in random colours.

    The number of leaves falls with their radius as r^-3, which makes the image look the same at
    every scale.
    """
    image = np.broadcast_to(random.standard_normal((channels, 1, 1)), (channels, height, width))
    image = image.copy()
    side = max(height, width)
    low, high = side * random.uniform(0.03, 0.15), side * random.uniform(0.25, 0.7)
    radii = 1.0 / np.sqrt(high**-2 + random.uniform(size=_LEAVES) * (low**-2 - high**-2))
    radii = np.sort(radii)[::-1]
    centres = random.uniform(-0.1, 1.1, (_LEAVES, 2)) * (height, width)
    aspects = np.exp(random.normal(0.0, 0.5, _LEAVES))
    angles = random.uniform(0.0, np.pi, _LEAVES)
    is_round = random.uniform(size=_LEAVES) < 0.5
    colours = random.standard_normal((_LEAVES, channels))
    shading = random.normal(0.0, 0.5, (_LEAVES, 2))
    axes = np.stack([np.cos(angles), np.sin(angles)], axis=1) / radii[:, None]
    reach = radii * np.maximum(aspects, 1.0 / aspects) * np.sqrt(2.0)
    starts = np.clip(np.floor(centres - reach[:, None]), 0, (height, width)).astype(int)
    stops = np.clip(np.ceil(centres + reach[:, None]) + 1, 0, (height, width)).astype(int)
    for leaf in np.flatnonzero((starts < stops).all(axis=1)):
        (top, left), (bottom, right) = starts[leaf], stops[leaf]
        down = np.arange(top, bottom)[:, None] - centres[leaf, 0]
        over = np.arange(left, right)[None, :] - centres[leaf, 1]
        cosine, sine = axes[leaf]
        along = (cosine * over + sine * down) / aspects[leaf]
        across = (cosine * down - sine * over) * aspects[leaf]
        square = np.maximum(np.abs(along), np.abs(across)) < 0.9
        inside = along**2 + across**2 < 1 if is_round[leaf] else square
        shade = shading[leaf, 0] * along + shading[leaf, 1] * across
        part = image[:, top:bottom, left:right]
        np.copyto(part, colours[leaf][:, None, None] + shade, where=inside)
    return image
