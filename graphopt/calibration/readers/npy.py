"""Read an .npy file for a model with one input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from graphopt.calibration.arrays import read_npy
from graphopt.calibration.columns import cut_arrays
from graphopt.calibration.dataset import FileDataset
from graphopt.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from graphopt.calibration.base import InputSpecs
    from graphopt.calibration.preprocessing import Preprocessing


@dataclass(frozen=True)
class NpyReader:
    """An .npy file with the samples of a model's only input."""

    name: ClassVar[str] = "npy"

    def accepts(self, source: Path) -> bool:
        """Whether the path is an .npy file."""
        return source.suffix.lower() == ".npy" and source.is_file()

    def open(
        self, source: Path, inputs: InputSpecs, preprocessing: Preprocessing | None
    ) -> FileDataset:
        """Open the file; its rows are read sample by sample."""
        if len(inputs) > 1:
            raise DataError(
                f"an .npy file holds one array and the model has {len(inputs)} inputs",
                code="G212",
                where=str(source),
                hint="use .npz with arrays " + ", ".join(f"`{name}`" for name in inputs),
            )
        arrays = [read_npy(source)]
        samples = cut_arrays(arrays, inputs, origin=str(source), preprocessing=preprocessing)
        return FileDataset(source, samples, salt=str(preprocessing))
