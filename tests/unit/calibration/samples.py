"""Set-up that the tests of readers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from graphopt.calibration.base import InputSpec
from graphopt.calibration.sources import open_dataset
from graphopt.errors import DataError

if TYPE_CHECKING:
    from graphopt.calibration.base import Dataset

    Shape = tuple[int | str | None, ...] | None


def specs(**inputs: tuple[Shape, str]) -> dict[str, InputSpec]:
    """Return what a model with these inputs, (shape, dtype) each, expects."""
    return {name: InputSpec(name, shape, dtype) for name, (shape, dtype) in inputs.items()}


ONE = specs(x=(("N", 3, 4), "float32"))
X = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
"""Six samples for ``ONE``."""


def fails(code: str, source: object, inputs: dict[str, InputSpec], **options: object) -> DataError:
    """Return the error that opening and reading the source raises; it has the code and a hint."""
    with pytest.raises(DataError) as caught:
        list(open_dataset(source, inputs, **options))  # type: ignore[call-overload,arg-type]
    assert caught.value.code == code, caught.value
    assert caught.value.hint
    return caught.value


def column(dataset: Dataset, name: str = "x") -> list[np.ndarray]:
    """Return the values of one input over all samples."""
    return [feed[name] for feed in dataset]
