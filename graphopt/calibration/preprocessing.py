"""How an image becomes the tensor that a model was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from graphopt.errors import DataError, RecipeError

if TYPE_CHECKING:
    from PIL.Image import Image

    from graphopt.calibration.base import Array

_CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, convert, then (pixel * scale - mean) / std.

    Args:
        resize: (height, width), or one number for the shorter side; bilinear with antialiasing.
        crop: (height, width) cut from the centre.
        scale: factor of the pixel values 0..255.
        mean: subtracted after scaling: none, one, or one per channel in the order of ``color``.
        std: divides at the end, as ``mean``.
        layout: axis order of the model's input.
        color: channels and their order.

    Raises:
        RecipeError: G103, a value out of range.
    """

    resize: tuple[int, int] | int | None = None
    crop: tuple[int, int] | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_sizes()
        self._check_numbers()

    @property
    def channels(self) -> int:
        """Number of channels that the model sees."""
        return _CHANNELS[self.color]

    @property
    def keeps_integers(self) -> bool:
        """Whether pixels stay uint8: nothing scales or shifts them."""
        return self.scale == 1 and not self.mean and not self.std

    def _check_choices(self) -> None:
        if self.layout not in ("NCHW", "NHWC"):
            raise _bad_option("layout", self.layout, "it is NCHW or NHWC")
        if self.color not in _CHANNELS:
            raise _bad_option("color", self.color, "it is RGB, BGR or GRAY")

    def _check_sizes(self) -> None:
        resize = (self.resize,) if isinstance(self.resize, int) else self.resize or (1, 1)
        if len(resize) > 2 or not all(size > 0 for size in resize):
            raise _bad_option("resize", self.resize, "it is [height, width] or the shorter side")
        crop = self.crop or (1, 1)
        if len(crop) != 2 or not all(size > 0 for size in crop):
            raise _bad_option("crop", self.crop, "it is [height, width]")

    def _check_numbers(self) -> None:
        if not math.isfinite(self.scale) or self.scale == 0:
            raise _bad_option("scale", self.scale, "it is a finite number other than 0")
        for option, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, self.channels) or not all(map(math.isfinite, values)):
                hint = f"give none, one or {self.channels} finite numbers"
                raise _bad_option(option, list(values), hint)
        if 0 in self.std:
            raise _bad_option("std", list(self.std), "it divides, so it cannot be 0")


def preprocess(image: Image, spec: Preprocessing, where: str) -> Array:
    """Return the tensor of one image.

    Args:
        image: 8 bits per channel, any mode that Pillow converts to RGB.
        spec: what to do.
        where: the file, for error messages.

    Returns:
        (1, C, H, W) or (1, H, W, C) by ``spec.layout``; float32, or uint8 when nothing scales.

    Raises:
        DataError: G212, the crop is larger than the image.
    """
    image = _crop(_resize(_to_mode(image, spec, where), spec), spec, where)
    pixels = np.asarray(image, dtype=np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels  # (H, W, C)
    if spec.color == "BGR":
        pixels = pixels[:, :, ::-1]
    values = pixels if spec.keeps_integers else _normalise(pixels, spec)
    values = values.transpose(2, 0, 1) if spec.layout == "NCHW" else values
    return np.ascontiguousarray(values[None])


def preprocess_pixels(pixels: Array, spec: Preprocessing, where: str) -> Array:
    """Return the tensor of one image that is given as an array.

    Args:
        pixels: uint8, (H, W), (H, W, C) or (C, H, W) with 1 or 3 channels; where both the first and
            the last axis have such a size, the last one is the channel.
        spec: what to do.
        where: the file, for error messages.

    Raises:
        DataError: G212, the array is not an image, or smaller than the crop.
    """
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3) and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.shape[2:] or (3,)) != (3,):
        raise DataError(
            f"an array of shape {list(pixels.shape)} is not an image",
            code="G212",
            where=where,
            hint="preprocessing takes uint8 images: [H, W], [H, W, 1] or [H, W, 3]",
        )
    return preprocess(Image.fromarray(np.ascontiguousarray(pixels)), spec, where)


def _normalise(pixels: Array, spec: Preprocessing) -> Array:
    values = pixels.astype(np.float32) * np.float32(spec.scale)
    if spec.mean:
        values -= np.asarray(spec.mean, dtype=np.float32)
    if spec.std:
        values /= np.asarray(spec.std, dtype=np.float32)
    return values


def _to_mode(image: Image, spec: Preprocessing, where: str) -> Image:
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"an image has more than 8 bits per channel (mode {image.mode})",
            code="G212",
            where=where,
            hint="convert it to 8 bits, or give the data as .npy",
        )
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette may hold transparency that RGB cannot express
    return image.convert("L" if spec.color == "GRAY" else "RGB")


def _resize(image: Image, spec: Preprocessing) -> Image:
    from PIL.Image import Resampling

    if spec.resize is None:
        return image
    if isinstance(spec.resize, int):
        width, height = image.size
        shorter = min(width, height)
        size = (
            max(1, spec.resize * width // shorter),
            max(1, spec.resize * height // shorter),
        )
    else:
        size = (spec.resize[1], spec.resize[0])
    return image if size == image.size else image.resize(size, Resampling.BILINEAR)


def _crop(image: Image, spec: Preprocessing, where: str) -> Image:
    if spec.crop is None:
        return image
    height, width = spec.crop
    if width > image.width or height > image.height:
        raise DataError(
            f"the crop [{height}, {width}] is larger than the image "
            f"[{image.height}, {image.width}]",
            code="G212",
            where=where,
            hint="declare a `resize` that is at least as large as the crop",
        )
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _bad_option(option: str, value: object, hint: str) -> RecipeError:
    return RecipeError(f"`{option}` of the preprocessing is {value}", hint=hint)
