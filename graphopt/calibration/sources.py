"""Open whatever the user calls data: a path, arrays in memory, or a Python iterable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from graphopt.calibration.arrays import MemoryRows
from graphopt.calibration.columns import cut_arrays
from graphopt.calibration.iterables import from_iterable
from graphopt.calibration.readers.folder import ArrayFolderReader
from graphopt.calibration.readers.images import ImageReader
from graphopt.calibration.readers.npy import NpyReader
from graphopt.calibration.readers.npz import NpzReader
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from graphopt.calibration.base import Array, Dataset, InputSpecs, Reader
    from graphopt.calibration.preprocessing import Preprocessing

    Source = (
        str
        | PathLike[str]
        | Mapping[str, Array]
        | Array
        | Iterable[Any]
        | Callable[[], Iterable[Any]]
        | Dataset
    )

BUILTIN_READERS: tuple[Reader, ...] = (
    NpzReader(),
    NpyReader(),
    ArrayFolderReader(),
    ImageReader(),
)


def open_dataset(
    source: Source,
    inputs: InputSpecs,
    *,
    readers: Sequence[Reader] = BUILTIN_READERS,
    preprocessing: Preprocessing | None = None,
) -> Dataset:
    """Return the samples that ``source`` holds for a model.

    Args:
        source: a path that a reader accepts; a mapping of input names to arrays, or the one array
            of a model with one input, cut as an .npz file is; an iterable of feeds, or a function
            that returns one; or a dataset, which is returned as it is.
        inputs: what the model expects, in its order.
        readers: asked in order whether they accept the path.
        preprocessing: how uint8 images become inputs.

    Raises:
        DataError: G211 to G214, naming the place, the input and the sample.
    """
    if isinstance(source, (str, PathLike)):
        return _open_path(Path(source), inputs, readers, preprocessing)
    if all(hasattr(source, part) for part in ("digest", "origin", "labels", "__len__")):
        return cast("Dataset", source)
    arrays = _arrays(source)
    if arrays is not None:
        return cut_arrays(arrays, inputs, origin="arrays in memory", preprocessing=preprocessing)
    if preprocessing is not None:
        raise DataError(
            "preprocessing is declared and the data is a Python iterable",
            code="G212",
            hint="give feeds that are ready for the model, or images as files or arrays",
        )
    if isinstance(source, Iterable) or callable(source):
        return from_iterable(source, inputs)
    raise DataError(
        f"data of type {type(source).__name__} cannot be read",
        hint="use a path, arrays by input name, one array, or an iterable of feeds",
    )


def _open_path(
    path: Path,
    inputs: InputSpecs,
    readers: Sequence[Reader],
    preprocessing: Preprocessing | None,
) -> Dataset:
    path = path.expanduser()
    if not path.exists():
        raise DataError("the data does not exist", where=str(path), hint="check the path")
    for reader in readers:
        if reader.accepts(path):
            return reader.open(path, inputs, preprocessing)
    known = ", ".join(f"`{reader.name}`" for reader in readers)
    if path.is_dir():
        raise DataError(
            "the folder holds no .npz, .npy or image files",
            code="G213",
            where=str(path),
            hint=f"readers asked: {known}",
        )
    raise DataError(
        "no reader accepts this kind of file",
        where=str(path),
        hint=f"use .npz, .npy, or a folder of those or of images; readers asked: {known}",
    )


def _arrays(source: object) -> list[MemoryRows] | None:
    """Return arrays in memory by name; None when the source is something else."""
    if isinstance(source, Mapping):
        return [_memory(str(name), value) for name, value in source.items()]
    if hasattr(source, "__array__"):
        return [_memory("data", source)]
    return None


def _memory(name: str, value: object) -> MemoryRows:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise _not_numbers(name) from error
    if array.dtype.hasobject:
        raise _not_numbers(name)
    return MemoryRows(name, "arrays in memory", array)


def _not_numbers(name: str) -> DataError:
    return DataError(
        f"`{name}` is not an array of numbers or text",
        hint="give arrays; lists of different lengths belong into an iterable of feeds",
    )
