"""Read an .npz file: one array per model input by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.calibration.arrays import read_npz
from graphopt.calibration.columns import cut_arrays
from graphopt.calibration.dataset import FileDataset

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.calibration.base import InputSpecs
    from graphopt.calibration.preprocessing import Preprocessing


@dataclass(frozen=True)
class NpzReader:
    """An .npz file with one array per model input, and optionally ``labels``."""

    name: ClassVar[str] = "npz"

    def accepts(self, source: Path) -> bool:
        """Whether the path is an .npz file."""
        return source.suffix.lower() == ".npz" and source.is_file()

    def open(
        self, source: Path, inputs: InputSpecs, preprocessing: Preprocessing | None
    ) -> FileDataset:
        """Open the file; its arrays are decompressed sample by sample."""
        arrays = read_npz(source)
        samples = cut_arrays(arrays, inputs, origin=str(source), preprocessing=preprocessing)
        return FileDataset(source, samples, salt=str(preprocessing))
