"""Which array feeds which model input, and how it is cut into samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from graphopt.calibration.conform import check_names, check_shapes, check_type, shape_text
from graphopt.calibration.dataset import ArrayDataset, check_label_count
from graphopt.calibration.preprocessing import preprocess_pixels
from graphopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from graphopt.calibration.arrays import Rows
    from graphopt.calibration.base import Array, InputSpec, InputSpecs
    from graphopt.calibration.preprocessing import Preprocessing

LABELS = "labels"
"""Name of the array that holds the labels, unless the model has an input of that name."""


@dataclass(frozen=True)
class Column:
    """The array of one input.

    Args:
        rows: the array.
        cut: "split": a sample is ``step`` rows along the batch axis, which stays; "feeds": each row
            is a whole feed; "pixels": each row is an image to preprocess.
        step: rows per sample; the declared batch size where it is fixed, else 1.
    """

    rows: Rows
    cut: Literal["split", "feeds", "pixels"]
    step: int = 1
    preprocessing: Preprocessing | None = None

    def __len__(self) -> int:
        return self.rows.shape[0] // self.step

    @property
    def rule(self) -> str:
        """How the array becomes samples, as text for the digest."""
        return f"{self.cut}/{self.step}/{self.preprocessing}"

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample; not known for pixels before they are preprocessed."""
        inner = self.rows.shape[1:]
        return inner if self.cut == "feeds" else (self.step, *inner)

    def samples(self, indices: Sequence[int]) -> Generator[Array]:
        """Yield the array of each sample; ``indices`` ascend."""
        for block in self.rows.blocks((index * self.step for index in indices), self.step):
            if self.preprocessing is not None:
                yield preprocess_pixels(block[0], self.preprocessing, self.rows.where)
            else:
                yield block[0] if self.cut == "feeds" else block


def cut_arrays(
    arrays: Sequence[Rows],
    inputs: InputSpecs,
    *,
    origin: str,
    preprocessing: Preprocessing | None = None,
) -> ArrayDataset:
    """Return the samples that arrays hold for a model.

    An array of the input's rank is split along axis 0 into samples that keep the batch axis (of
    size 1, or of the declared size where that is fixed). An array of one rank more holds one whole
    feed per row. ``labels`` is kept for validation. A model with one input takes the only array,
    whatever its name. uint8 images, [N, H, W, C] or [N, H, W], are preprocessed when that is
    declared.

    Args:
        arrays: what the user gave, by name.
        inputs: what the model expects.
        origin: where the arrays come from, for error messages.
        preprocessing: how uint8 images become inputs.

    Raises:
        DataError: G212, the arrays do not fit the model; G213, they are empty.
    """
    named = {rows.name: rows for rows in arrays}
    labels = named.pop(LABELS, None) if LABELS not in inputs else None
    chosen = _match(named, inputs, origin)
    columns = {
        name: _column(chosen[name], spec, origin, preprocessing) for name, spec in inputs.items()
    }
    _check_columns(columns, inputs, origin, preprocessing)
    used = {rows.name for rows in chosen.values()}
    return ArrayDataset(
        columns,
        inputs,
        origin=origin,
        labels=_labels(labels, columns, origin),
        ignored=tuple(name for name in named if name not in used),
    )


def _match(named: Mapping[str, Rows], inputs: InputSpecs, origin: str) -> dict[str, Rows]:
    if not inputs:
        raise DataError(
            "the model has no inputs, so it takes no data",
            code="G212",
            where=origin,
            hint="compile it without data",
        )
    if len(inputs) == 1 and len(named) == 1:
        return dict(zip(inputs, named.values(), strict=True))
    check_names(named, inputs, origin)
    return {name: named[name] for name in inputs}


def _column(
    rows: Rows, spec: InputSpec, origin: str, preprocessing: Preprocessing | None
) -> Column:
    if 0 in rows.shape:
        raise DataError(
            f"array `{rows.name}` has no samples: its shape is {shape_text(rows.shape)}",
            code="G213",
            where=origin,
            hint="calibration needs at least one sample",
        )
    rank = None if spec.shape is None else len(spec.shape)
    if preprocessing is not None and rows.dtype == np.uint8 and rank in (None, 4):
        return _pixel_column(rows, spec, origin, preprocessing)
    check_type(rows.dtype, spec, origin)
    return _cut(rows, spec, origin)


def _pixel_column(rows: Rows, spec: InputSpec, origin: str, preprocessing: Preprocessing) -> Column:
    if len(rows.shape) not in (3, 4):
        raise DataError(
            f"array `{rows.name}` of shape {shape_text(rows.shape)} does not hold images",
            code="G212",
            where=origin,
            hint="preprocessing takes uint8 images: [N, H, W, C] or [N, H, W]",
        )
    kind = np.dtype(np.uint8 if preprocessing.keeps_integers else np.float32)
    check_type(kind, spec, f"{origin}, after preprocessing")
    return Column(rows, "pixels", preprocessing=preprocessing)


def _cut(rows: Rows, spec: InputSpec, origin: str) -> Column:
    rank = len(rows.shape)
    wanted = max(1, rank) if spec.shape is None else len(spec.shape)
    if rank == wanted + 1:
        return Column(rows, "feeds")
    if rank != wanted or rank == 0:
        hint = "add a batch axis in front" if rank == wanted - 1 else "check which array it is"
        raise DataError(
            f"array `{rows.name}` of shape {shape_text(rows.shape)} does not fit input "
            f"`{spec.name}` of shape {shape_text(spec.shape or ())}",
            code="G212",
            where=origin,
            hint=f"give samples along axis 0 ({wanted} dimensions) or one whole feed per row "
            f"({wanted + 1}); {hint}",
        )
    declared = spec.shape[0] if spec.shape else None
    column = Column(rows, "split", step=declared if isinstance(declared, int) else 1)
    if column.step < 1 or rows.shape[0] % column.step:
        raise DataError(
            f"array `{rows.name}` has {rows.shape[0]} rows and input `{spec.name}` takes "
            f"{column.step} at a time",
            code="G212",
            where=origin,
            hint="the number of rows must be a multiple of the model's fixed batch size",
        )
    return column


def _check_columns(
    columns: Mapping[str, Column],
    inputs: InputSpecs,
    origin: str,
    preprocessing: Preprocessing | None,
) -> None:
    plain = {name: column for name, column in columns.items() if column.cut != "pixels"}
    if preprocessing is not None and len(plain) == len(columns):
        kinds = ", ".join(
            f"`{column.rows.name}` is {column.rows.dtype}" for column in plain.values()
        )
        raise DataError(
            f"preprocessing is declared and no array holds uint8 images: {kinds}",
            code="G212",
            where=origin,
            hint="remove the preprocessing if the arrays are ready for the model",
        )
    checked = {name: inputs[name] for name in plain}
    check_shapes({name: column.sample_shape for name, column in plain.items()}, checked, origin)
    if len({len(column) for column in columns.values()}) > 1:
        counts = ", ".join(f"{len(column)} for `{name}`" for name, column in columns.items())
        raise DataError(
            f"the inputs have different numbers of samples: {counts}",
            code="G212",
            where=origin,
            hint="give every input the same number of samples",
        )


def _labels(rows: Rows | None, columns: Mapping[str, Column], origin: str) -> Array | None:
    """Return one label per sample; of a fixed batch size, one row of labels per batch."""
    if rows is None:
        return None
    labels = rows.whole()
    column = next(iter(columns.values()))
    if column.step > 1 and labels.ndim and labels.shape[0] == len(column) * column.step:
        labels = labels.reshape(len(column), column.step, *labels.shape[1:])
    check_label_count(labels, len(column), origin)
    return labels
