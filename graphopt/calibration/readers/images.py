"""Read a folder of images with a preprocessing specification."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.calibration.conform import conform
from graphopt.calibration.dataset import StreamedDataset, check_label_count, file_pieces
from graphopt.calibration.preprocessing import preprocess
from graphopt.calibration.readers.folder import IMAGE_SUFFIXES, folder_labels
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from graphopt.calibration.base import Array, Feed, InputSpecs
    from graphopt.calibration.preprocessing import Preprocessing


@dataclass(frozen=True)
class ImageReader:
    """An image, or a folder of images with its subfolders; ``labels.npy`` is kept."""

    name: ClassVar[str] = "images"

    def accepts(self, source: Path) -> bool:
        """Whether the path is an image or holds images."""
        return bool(image_files(source))

    def open(
        self, source: Path, inputs: InputSpecs, preprocessing: Preprocessing | None
    ) -> ImageDataset:
        """List the images; each is decoded when its turn comes."""
        if len(inputs) != 1:
            raise DataError(
                f"images serve a model with one input and this one has {len(inputs)}",
                code="G212",
                where=str(source),
                hint="use .npz with one array per input",
            )
        if preprocessing is None:
            raise DataError(
                "images need preprocessing before a model can take them",
                code="G212",
                where=str(source),
                hint="declare how the model was trained: resize, crop, scale, mean, std, layout",
            )
        return ImageDataset(source, inputs, preprocessing)


class ImageDataset(StreamedDataset):
    """One image at a time; samples are ordered by path."""

    def __init__(self, source: Path, inputs: InputSpecs, preprocessing: Preprocessing) -> None:
        super().__init__(str(source))
        self._source = source
        self._inputs = inputs
        self._preprocessing = preprocessing
        self._files = image_files(source)
        self._labels = folder_labels(source) if source.is_dir() else None
        check_label_count(self._labels, len(self), self.origin)

    def __len__(self) -> int:
        return len(self._files)

    def labels(self) -> Array | None:
        """Return the label of each sample when the folder has them."""
        return self._labels

    def select(self, indices: Sequence[int]) -> Iterator[Feed]:
        """Yield the feeds of the given samples; ``indices`` ascend."""
        (name,) = self._inputs
        for index in indices:
            path = self._files[index]
            feed = {name: read_image(path, self._preprocessing)}
            yield conform(feed, self._inputs, sample=index, where=str(path))

    def content(self) -> Iterator[bytes]:
        """Yield the preprocessing, then the bytes of each image."""
        yield str(self._preprocessing).encode()
        for path in self._files:
            yield f"{path.relative_to(self._source)}:{path.stat().st_size};".encode()
            yield from file_pieces(path)


def image_files(source: Path) -> list[Path]:
    """Return the images at or under a path, in the order of their paths; hidden ones are left."""
    if source.is_file():
        return [source] if source.suffix.lower() in IMAGE_SUFFIXES else []
    return sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def read_image(path: Path, preprocessing: Preprocessing) -> Array:
    """Return the tensor of an image file.

    Raises:
        DataError: G211, the file is no image, damaged, or of more pixels than Pillow finds safe.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                image.load()
                return preprocess(image, preprocessing, str(path))
        except (
            OSError,
            ValueError,
            SyntaxError,  # Pillow's word for a broken PNG
            Image.DecompressionBombWarning,
            Image.DecompressionBombError,
        ) as error:
            raise DataError(
                f"the image cannot be read: {error}", where=str(path), hint="remove or replace it"
            ) from error
