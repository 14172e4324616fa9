"""Calibration samples for the peers' scripts, which run in environments without graphopt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, np.ndarray[Any, Any]]


def load(path: Path) -> list[Feed]:
    """Return one feed per row of the arrays in an .npz file, batch 1."""
    with np.load(path) as data:
        arrays = {key: data[key] for key in data.files}
    rows = len(next(iter(arrays.values())))
    return [{key: array[i : i + 1] for key, array in arrays.items()} for i in range(rows)]


class Reader:
    """The protocol of onnxruntime's CalibrationDataReader and of those modelled on it."""

    def __init__(self, path: Path) -> None:
        self.feeds = load(path)
        self.position = 0

    def get_next(self) -> Feed | None:
        """Return the next sample, or None."""
        if self.position >= len(self.feeds):
            return None
        self.position += 1
        return self.feeds[self.position - 1]

    def rewind(self) -> None:
        """Start again."""
        self.position = 0


def arguments() -> tuple[Path, Path, Path]:
    """Return MODEL, CALIBRATION.npz and OUTPUT from the command line."""
    model, calibration, output = (Path(argument) for argument in sys.argv[1:4])
    return model, calibration, output
