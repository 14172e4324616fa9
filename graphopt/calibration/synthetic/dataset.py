"""Synthetic samples: random images that make a model's activations what they were in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.calibration.dataset import StreamedDataset
from graphopt.calibration.synthetic.first_layer import InputModel, fit_input
from graphopt.calibration.synthetic.images import draw, frequencies
from graphopt.calibration.synthetic.statistics import (
    Remembered,
    choose_together,
    features,
    mismatch,
    remembered_statistics,
)
from graphopt.errors import ModelError
from graphopt.types import DType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from graphopt.ir import Graph

    Array = np.ndarray[Any, Any]
    Feed = Mapping[str, Array]

ORIGIN = "synthetic: from BatchNormalization statistics"
_DRAWN = 3
"""Samples that are drawn for each that is chosen."""
_SCALED_ON = 32
"""Images that the scale and the spectrum of all are taken from."""
_TRIED_ON = 16
_JITTER = 0.25
"""Deviation of the exponent of the spectrum between images."""
_MOST_BYTES = 256 << 20
_LARGEST_MISMATCH = 1.0
"""For each node, of the chosen samples: beyond it activations are nothing like in training."""
_FLOATS = frozenset({DType.FLOAT, DType.DOUBLE, DType.FLOAT16})
_GUESSES = ((0.0, 1.0), (0.0, 0.5), (0.5, 0.25), (127.0, 64.0))
"""(mean, deviation) of inputs that a model may want when its first layer does not say."""


class SyntheticDataset(StreamedDataset):
    """Samples that nobody took, for a model with one input.

    Args:
        name: of the input.
        values: one sample after the other, each with its batch axis.
        mismatch: how far activations are from what the model remembers; mean square over nodes
            of the distance in deviations. 0.01 on data like that it was trained on.
    """

    def __init__(self, name: str, values: Sequence[Array], mismatch: float) -> None:
        super().__init__(ORIGIN)
        self.mismatch = mismatch
        self._name = name
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples."""
        for index in indices:
            yield {self._name: self._values[index]}


def synthetic_dataset(graph: Graph, seed: int, samples: int) -> SyntheticDataset | None:
    """Return samples whose activations have the statistics that a model remembers.

    Random images are drawn with the means, colours and smoothness that the first normalization
    implies; of three times as many as are wanted those are chosen that together come nearest to the
    remembered mean and variance of every channel of every normalization.

    Args:
        graph: with BatchNormalization nodes, before they are folded; not changed.
        seed: of all that is drawn; the same samples for the same seed and graph.
        samples: how many, at least 1; fewer where they would take more than 256 MiB.

    Returns:
        the samples; None where the model has no BatchNormalization with stored statistics, has
        more than one input, or one that is no float tensor [N, C], [N, C, L] or [N, C, H, W] of
        known sizes, or where no samples could be found that suit it.
    """
    shape = _sample_shape(graph)
    remembered = remembered_statistics(graph)
    if shape is None or not remembered:
        return None
    name = graph.feeds[0].name
    dtype = graph.feeds[0].dtype
    assert dtype is not None
    kind = np.dtype(dtype.numpy_name)
    samples = max(1, min(samples, _MOST_BYTES // max(int(np.prod(shape)) * kind.itemsize, 1)))
    try:
        maker = _maker(graph, remembered, seed, shape, kind)
        pool = range(_DRAWN * samples)
        rows = features(graph, remembered, ({name: maker.sample(i)} for i in pool))
    except ModelError:
        return None
    chosen = choose_together(rows, samples)
    apart = mismatch(rows[chosen]) / len(remembered)
    if apart > _LARGEST_MISMATCH:
        return None
    return SyntheticDataset(name, [maker.sample(int(i)) for i in chosen], apart)


def _sample_shape(graph: Graph) -> tuple[int, ...] | None:
    """Return the shape of one sample; None where it is not known, or no image."""
    if len(graph.feeds) != 1 or graph.feeds[0].dtype not in _FLOATS:
        return None
    first, *rest = graph.feeds[0].shape or (None,)
    sizes = [d for d in rest if isinstance(d, int) and d > 0]
    if len(sizes) != len(rest) or not 1 <= len(rest) <= 3:
        return None
    return (first if isinstance(first, int) else 1, *sizes)


@dataclass(frozen=True)
class _Maker:
    """Makes the sample of each number, the same whenever it is asked for.

    Args:
        seed: of the images.
        shape: of a sample.
        kind: numpy type of a sample.
        spectrum: amplitude of the images as they are drawn, by frequency.
        exponent: of the spectrum that they are given; None to leave theirs.
        colours: what mixes the channels, [C, C].
        offset: what is then added to each channel.
    """

    seed: int
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    spectrum: Array
    exponent: float | None
    colours: Array
    offset: Array

    def sample(self, number: int) -> Array:
        """Return one sample."""
        images = [self.image((number, part)) for part in range(self.shape[0])]
        mixed = np.einsum("ab,nbhw->nahw", self.colours, np.stack(images))
        mixed += self.offset[None, :, None, None]
        return np.ascontiguousarray(mixed.reshape(self.shape), dtype=self.kind)

    def image(self, number: tuple[int, int]) -> Array:
        """Return one image, before its channels are mixed; float64 [C, H, W]."""
        random = np.random.default_rng((self.seed, *number))
        channels, height, width = _planes(self.shape)
        drawn = draw(random, channels, height, width)
        if self.exponent is None:
            return drawn
        exponent = self.exponent + random.normal(0.0, _JITTER)
        wanted = frequencies(height, width) ** -exponent
        wanted *= np.sqrt(np.mean(self.spectrum**2) / np.mean(wanted**2))
        shaped = np.fft.rfft2(drawn) * (wanted / self.spectrum)
        return np.asarray(np.fft.irfft2(shaped, s=(height, width)))


def _planes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (channels, height, width) of a sample."""
    sizes = (*shape[1:], 1, 1)[:3]
    return (sizes[0], sizes[2], sizes[1]) if len(shape) == 3 else (sizes[0], sizes[1], sizes[2])


def _maker(
    graph: Graph,
    remembered: tuple[Remembered, ...],
    seed: int,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> _Maker:
    """Return what makes samples like those that the model was trained on."""
    channels, height, width = _planes(shape)
    plain = _Maker(
        seed,
        shape,
        kind,
        np.ones((height, width // 2 + 1)),
        None,
        np.eye(channels),
        np.zeros(channels),
    )
    model = fit_input(graph, remembered, (height, width))
    if model is not None:
        return _fitted(plain, model)
    made = [
        _fitted(plain, InputModel(np.full(channels, mean), np.eye(channels) * deviation**2, 1.25))
        for mean, deviation in _GUESSES
    ]
    return min(made, key=lambda one: _tried(graph, remembered, one))


def _tried(graph: Graph, remembered: tuple[Remembered, ...], maker: _Maker) -> float:
    name = graph.feeds[0].name
    feeds = ({name: maker.sample(number)} for number in range(_TRIED_ON))
    return mismatch(features(graph, remembered, feeds))


def _fitted(plain: _Maker, model: InputModel) -> _Maker:
    """Return a maker whose images have the spectrum, means and covariance of a model."""
    drawn = np.stack([plain.image((number, 0)) for number in range(_SCALED_ON)])
    amplitude = np.sqrt(np.square(np.abs(np.fft.rfft2(drawn))).mean(axis=(0, 1)))
    shaped = _Maker(
        plain.seed,
        plain.shape,
        plain.kind,
        np.maximum(amplitude, 1e-6 * amplitude.max()),
        model.exponent,
        plain.colours,
        plain.offset,
    )
    images = np.stack([shaped.image((number, 0)) for number in range(_SCALED_ON)])
    mean = images.mean(axis=(0, 2, 3))
    apart = images - mean[None, :, None, None]
    # Channels are drawn alike and on their own; what little they have in common is chance.
    deviation = np.sqrt(np.square(apart).mean())
    colours = _root(model.covariance) / deviation
    return _Maker(
        plain.seed,
        plain.shape,
        plain.kind,
        shaped.spectrum,
        model.exponent,
        colours,
        model.mean,
    )


def _root(covariance: Array) -> Array:
    """Return A with A A^T = covariance, for a covariance that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
