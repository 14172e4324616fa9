"""Read a folder of .npz and .npy files, in the order of their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.calibration.arrays import read_npy, reading
from graphopt.calibration.dataset import ChainedDataset
from graphopt.calibration.readers.npy import NpyReader
from graphopt.calibration.readers.npz import NpzReader
from graphopt.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.calibration.base import Array, InputSpecs
    from graphopt.calibration.preprocessing import Preprocessing

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
LABELS_FILE = "labels.npy"


@dataclass(frozen=True)
class ArrayFolderReader:
    """A folder of .npz or .npy files, each with one sample or several; ``labels.npy`` is kept."""

    name: ClassVar[str] = "array-folder"

    def accepts(self, source: Path) -> bool:
        """Whether the path is a folder with array files."""
        return source.is_dir() and bool(array_files(source))

    def open(
        self, source: Path, inputs: InputSpecs, preprocessing: Preprocessing | None
    ) -> ChainedDataset:
        """Open every file of the folder; only the headers are read."""
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in source.iterdir()):
            raise DataError(
                "the folder holds both array files and images",
                where=str(source),
                hint="keep one kind in a folder",
            )
        readers: dict[str, NpzReader | NpyReader] = {".npz": NpzReader(), ".npy": NpyReader()}
        parts = [
            readers[path.suffix.lower()].open(path, inputs, preprocessing)
            for path in array_files(source)
        ]
        return ChainedDataset(parts, origin=str(source), labels=folder_labels(source))


def array_files(folder: Path) -> list[Path]:
    """Return the .npz and .npy files of a folder by name, without ``labels.npy``."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".npz", ".npy")
        and path.name != LABELS_FILE
        and not path.name.startswith(".")
        and path.is_file()
    )


def folder_labels(folder: Path) -> Array | None:
    """Return the content of ``labels.npy`` when the folder has it."""
    path = folder / LABELS_FILE
    if not path.is_file():
        return None
    with reading(str(path)):
        return read_npy(path).whole()
