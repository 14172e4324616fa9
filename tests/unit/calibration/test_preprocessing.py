"""Preprocessing against the formula written out with numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from graphopt.calibration.preprocessing import Preprocessing, preprocess, preprocess_pixels
from graphopt.errors import DataError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def test_the_formula_per_channel() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    spec = Preprocessing(mean=mean, std=std)
    found = preprocess_pixels(PIXELS, spec, "here")
    expected = ((PIXELS / 255.0 - mean) / std).transpose(2, 0, 1)[None]
    assert found.shape == (1, 3, 12, 20)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_mean_for_all_channels_nhwc_bgr() -> None:
    spec = Preprocessing(scale=1.0, mean=(127.0,), std=(128.0,), layout="NHWC", color="BGR")
    found = preprocess_pixels(PIXELS, spec, "here")
    expected = (PIXELS[None, :, :, ::-1].astype(np.float64) - 127) / 128
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_pixels_stay_integers_when_nothing_scales() -> None:
    found = preprocess_pixels(PIXELS, Preprocessing(scale=1, layout="NHWC"), "here")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0], PIXELS)


@pytest.mark.parametrize("shape", [(12, 20), (12, 20, 1), (1, 12, 20)])
def test_gray_arrays(shape: tuple[int, ...]) -> None:
    pixels = PIXELS[:, :, 0].reshape(shape)
    found = preprocess_pixels(pixels, Preprocessing(scale=1, color="GRAY"), "here")
    np.testing.assert_array_equal(found[0, 0], PIXELS[:, :, 0])


def test_planar_arrays_are_recognised() -> None:
    planar = np.ascontiguousarray(PIXELS.transpose(2, 0, 1))
    spec = Preprocessing()
    np.testing.assert_array_equal(
        preprocess_pixels(planar, spec, "here"), preprocess_pixels(PIXELS, spec, "here")
    )


def test_resize_and_centre_crop() -> None:
    image = Image.fromarray(PIXELS)
    assert preprocess(image, Preprocessing(resize=24), "here").shape == (1, 3, 24, 40)
    assert preprocess(image, Preprocessing(resize=(8, 9)), "here").shape == (1, 3, 8, 9)
    cropped = preprocess(image, Preprocessing(crop=(4, 6), scale=1, layout="NHWC"), "here")
    np.testing.assert_array_equal(cropped[0], PIXELS[4:8, 7:13])
    both = preprocess(image, Preprocessing(resize=6, crop=(6, 6)), "here")
    assert both.shape == (1, 3, 6, 6)


def test_alpha_and_palette_become_rgb(tmp_path: Path) -> None:
    for mode in ("RGBA", "P", "L", "CMYK", "1"):
        image = Image.fromarray(PIXELS).convert(mode)
        assert preprocess(image, Preprocessing(), "here").shape == (1, 3, 12, 20)


@pytest.mark.parametrize(
    ("pixels", "spec", "message"),
    [
        (PIXELS, Preprocessing(crop=(64, 64)), "larger than the image"),
        (np.zeros((4, 4, 5), np.uint8), Preprocessing(), "not an image"),
        (np.zeros((4,), np.uint8), Preprocessing(), "not an image"),
        (np.zeros((2, 2, 4, 3), np.uint8), Preprocessing(), "not an image"),
    ],
)
def test_what_is_no_image_is_named(pixels: np.ndarray, spec: Preprocessing, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        preprocess_pixels(pixels, spec, "cat.png")
    assert (caught.value.code, caught.value.where) == ("G212", "cat.png")


def test_sixteen_bit_images_are_refused() -> None:
    with pytest.raises(DataError, match="8 bits"):
        preprocess(Image.fromarray(np.zeros((4, 4), np.uint16)), Preprocessing(), "x.png")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"layout": "NCWH"}, "layout"),
        ({"color": "RGBA"}, "color"),
        ({"resize": 0}, "resize"),
        ({"resize": (3, -1)}, "resize"),
        ({"crop": (0, 3)}, "crop"),
        ({"crop": (3,)}, "crop"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"std": (1.0, 1.0, 0.0)}, "std"),
        ({"std": (0.5, 0.5, 0.5), "color": "GRAY"}, "std"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Preprocessing(**options)  # type: ignore[arg-type]
    assert caught.value.code == "G103"
    assert f"`{name}`" in caught.value.message
    assert caught.value.hint
