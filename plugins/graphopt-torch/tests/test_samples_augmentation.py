"""Alterations: what is stated is done, what is certain is inferred, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphopt_torch.samples import Augmentation
from graphopt_torch.samples.alteration import altered
from graphopt_torch.samples.pictures import are_pictures
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import testing
from graphopt.errors import RecipeError

PICTURE = testing.graph("m (float[N, 3, 32, 32] x) => (float[N, 3, 32, 32] y) { y = Relu(x) }")
TOKENS = testing.graph("m (int64[N, T] ids) => (int64[N, T] y) { y = Identity(ids) }")
ROWS = testing.graph("m (float[N, 40] x) => (float[N, 40] y) { y = Relu(x) }")
NO_NOISE: dict[str, Any] = {"x": np.ones((1, 3, 1, 1), np.float32)}

Array = np.ndarray[Any, Any]


def smooth(count: int, channels: int = 3) -> Array:
    """Random slopes, which are alike from pixel to pixel: [count, 1, channels, 32, 32]."""
    slopes = np.random.default_rng(0).standard_normal((count, 1, channels, 3, 1, 1))
    down, right = np.linspace(-1, 1, 32)[:, None], np.linspace(-1, 1, 32)[None]
    made = slopes[..., 0, :, :] + slopes[..., 1, :, :] * down + slopes[..., 2, :, :] * right
    return made.astype(np.float32)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_alterations_are_read_from_text() -> None:
    read = Augmentation.of("flip, crop=4,noise=0.05,mixup=0.2", PICTURE)
    assert read == Augmentation(flip=True, crop=4, noise=0.05, mixup=0.2)
    assert str(read) == "flip,crop=4,noise=0.05,mixup=0.2"
    assert Augmentation.of(str(read), PICTURE) == read
    assert Augmentation.of("none", TOKENS).is_none
    assert str(Augmentation()) == "none"


@pytest.mark.parametrize(
    "text", ["flips", "crop", "crop=2.5", "noise=-1", "noise=nan", "mixup=much", "flip=1", "flip,,"]
)
def test_what_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(RecipeError, match="augment") as caught:
        Augmentation.of(text, PICTURE)
    assert caught.value.code == "G103"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "graph"), [("flip", TOKENS), ("noise=0.1", TOKENS), ("crop=2", ROWS)]
)
def test_what_the_inputs_cannot_have_is_told(text: str, graph: Any) -> None:
    with pytest.raises(RecipeError, match="no input of the model"):
        Augmentation.of(text, graph)


def test_pictures_are_told_from_noise() -> None:
    noise = random().standard_normal((4, 1, 3, 32, 32)).astype(np.float32)
    assert are_pictures([{"x": values} for values in smooth(4)])
    assert not are_pictures([{"x": values} for values in noise])
    assert not are_pictures([{"x": values} for values in smooth(4, channels=1)])
    assert not are_pictures([{"x": values, "state": values} for values in smooth(4)])
    assert not are_pictures([{"x": np.zeros((1, 3, 32, 32), np.float32)}])
    assert not are_pictures([])


def test_a_flip_goes_from_left_to_right() -> None:
    batch = {"x": smooth(40)}
    made = altered(batch, Augmentation(flip=True), NO_NOISE, random())["x"]
    mirrored = [np.array_equal(a, b[..., ::-1]) for a, b in zip(made, batch["x"], strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(made, batch["x"], strict=True)]
    assert all(a or b for a, b in zip(mirrored, kept, strict=True))
    assert 10 <= sum(mirrored) <= 30


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 5))
def test_a_moved_picture_is_the_picture_elsewhere(crop: int, seed: int) -> None:
    batch = {"x": smooth(3)}
    made = altered(batch, Augmentation(crop=crop), NO_NOISE, random(seed))["x"]
    wide = np.pad(batch["x"], [(0, 0)] * 3 + [(crop, crop)] * 2, mode="reflect")
    for sample in range(3):
        windows = np.lib.stride_tricks.sliding_window_view(wide[sample], (32, 32), axis=(2, 3))
        found = (windows == made[sample][:, :, None, None]).all(axis=(0, 1, 4, 5))
        assert found.any()


def test_noise_is_relative_to_the_channel() -> None:
    batch = {"x": np.zeros((8, 1, 3, 32, 32), np.float32)}
    deviations = {"x": np.array([1.0, 2.0, 0.0], np.float32).reshape(1, 3, 1, 1)}
    made = altered(batch, Augmentation(noise=0.1), deviations, random())["x"]
    found = made.std(axis=(0, 1, 3, 4))
    np.testing.assert_allclose(found, [0.1, 0.2, 0.0], rtol=0.05)
    assert made.dtype == np.float32


def test_mixed_samples_lie_between_two() -> None:
    batch = {"x": np.arange(6, dtype=np.float32)[:, None, None] * np.ones((1, 1, 4), np.float32)}
    made = altered(batch, Augmentation(mixup=1.0), {}, random())["x"]
    assert np.ptp(made, axis=(1, 2)).max() < 1e-5  # one share for a whole sample
    assert made.min() >= 0.0
    assert made.max() <= 5.0
    assert (made != batch["x"]).any()


def test_integers_are_left_alone_and_what_is_no_picture_is_not_moved() -> None:
    rows = random().standard_normal((4, 1, 40)).astype(np.float32)
    ids = np.arange(12).reshape(4, 1, 3)
    how = Augmentation(flip=True, crop=3, mixup=0.5)
    made = altered({"ids": ids, "x": rows}, how, {}, random())
    assert np.array_equal(made["ids"], ids)
    moved = altered({"x": rows}, Augmentation(flip=True, crop=3), {}, random())
    assert np.array_equal(moved["x"], rows)


def test_alterations_depend_on_the_random_numbers_alone() -> None:
    how = Augmentation(flip=True, crop=4, noise=0.1, mixup=0.3)
    one, again, other = (
        altered({"x": smooth(5)}, how, NO_NOISE, random(s))["x"] for s in (1, 1, 2)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
