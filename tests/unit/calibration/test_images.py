"""Images: folders of them, and arrays of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from graphopt.calibration.preprocessing import Preprocessing
from graphopt.calibration.sources import open_dataset
from tests.unit.calibration.samples import ONE, X, column, fails, specs

if TYPE_CHECKING:
    from pathlib import Path

RNG = np.random.default_rng(0)
IMAGE = specs(input=(("N", 3, 8, 8), "float32"))


def test_folder_of_images(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    (tmp_path / "sub").mkdir()
    names = ["a.png", "b.bmp", "c.webp", "d.PNG", "sub/e.png"]
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name, lossless=True)
    np.save(tmp_path / "labels.npy", np.arange(5))
    spec = Preprocessing(mean=(0.5,), std=(0.25,))
    dataset = open_dataset(tmp_path, IMAGE, preprocessing=spec)
    expected = ((pixels / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.concatenate(column(dataset, "input")), expected, atol=1e-5)
    assert dataset.labels().tolist() == list(range(5))  # type: ignore[union-attr]
    other = open_dataset(tmp_path, IMAGE, preprocessing=Preprocessing())
    assert other.digest != dataset.digest
    single = open_dataset(tmp_path / "a.png", IMAGE, preprocessing=spec)
    np.testing.assert_allclose(column(single, "input")[0], expected[:1], atol=1e-5)
    assert single.digest


def test_jpeg_of_another_size_is_resized(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    fails("G212", tmp_path, IMAGE, preprocessing=Preprocessing())
    spec = Preprocessing(resize=10, crop=(8, 8))
    (feed,) = open_dataset(tmp_path, IMAGE, preprocessing=spec)
    assert feed["input"].shape == (1, 3, 8, 8)


def test_images_need_preprocessing_and_one_input(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert "preprocessing" in fails("G212", tmp_path, IMAGE).message
    two = specs(a=(None, "float32"), b=(None, "float32"))
    fails("G212", tmp_path, two, preprocessing=Preprocessing())


def test_broken_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for content in (b"", b"no image", whole[:60], whole[:50] + bytes(30) + whole[80:]):
        (tmp_path / "a.png").write_bytes(content)
        error = fails("G211", tmp_path, IMAGE, preprocessing=Preprocessing())
        assert error.where == str(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # a bomb is what has more pixels
    fails("G211", tmp_path, IMAGE, preprocessing=Preprocessing())
    np.save(tmp_path / "b.npy", X)
    assert "both" in fails("G211", tmp_path, IMAGE, preprocessing=Preprocessing()).message


@pytest.mark.parametrize("rank", [3, 4])
def test_uint8_arrays_are_preprocessed_when_declared(tmp_path: Path, rank: int) -> None:
    shape = (5, 8, 8, 3)[:rank]
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "calib.npz", x=pixels)
    channels = 3 if rank == 4 else 1
    inputs = specs(input=(("N", channels, 8, 8), "float32"))
    spec = Preprocessing(color="RGB" if rank == 4 else "GRAY")
    found = column(open_dataset(tmp_path / "calib.npz", inputs, preprocessing=spec), "input")
    expected = (pixels.reshape(5, 8, 8, channels) / 255).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)


def test_preprocessing_that_cannot_apply_is_an_error() -> None:
    spec = Preprocessing()
    assert "uint8" in fails("G212", {"x": X}, ONE, preprocessing=spec).message
    fails("G212", [X[:1]], ONE, preprocessing=spec)
    flat = np.zeros((3, 4), np.uint8)
    fails("G212", {"x": flat}, IMAGE, preprocessing=spec)
    integer = specs(x=((1, 3, 8, 8), "uint8"))
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    fails("G212", {"x": pixels}, integer, preprocessing=spec)
    feeds = column(open_dataset({"x": pixels}, integer, preprocessing=Preprocessing(scale=1)))
    assert [feed.dtype for feed in feeds] == [np.uint8, np.uint8]
