"""What the outputs of a teacher hold, which says how a student is compared with them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.divergence import OutputKind, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Array = np.ndarray[Any, Any]

_ALIKE = 1e-3
"""Relative spread of the lengths of rows that are said to have been normalised."""
_MATRIX = 2


class Kind(Enum):
    """How an output is taught."""

    LOGITS = "logits"
    """By the KL divergence of the classes that the scores stand for."""
    PROBABILITIES = "probabilities"
    """By the KL divergence."""
    DIRECTION = "direction"
    """By the cosine: rows of length one, which is what embeddings are."""
    SIGNAL = "signal"
    """By the power of the difference."""


_KINDS = {
    OutputKind.LOGITS: Kind.LOGITS,
    OutputKind.PROBABILITIES: Kind.PROBABILITIES,
    OutputKind.SIGNAL: Kind.SIGNAL,
}


def kinds_of(samples: Sequence[Mapping[str, Array]]) -> dict[str, Kind]:
    """Tell how each output is taught, by name; outputs of integers cannot be, and are absent.

    Kinds are those of ``graphopt.analysis.divergence``, with two additions: rows of length one
    are directions; and beside an output of probabilities, what would pass for scores of another
    kind are numbers in their own right, as the boxes of a detector are.

    Args:
        samples: outputs of the teacher for several samples, by name.
    """
    outputs = {name: [sample[name] for sample in samples] for name in samples[0]}
    found = {
        name: _KINDS[kind_of([_wide(v) for v in values])]
        for name, values in outputs.items()
        if values[0].dtype.kind == "f"
    }
    for name, kind in found.items():
        if kind is Kind.LOGITS and Kind.PROBABILITIES in found.values():
            found[name] = Kind.SIGNAL
        elif kind is Kind.LOGITS and _have_length_one(outputs[name]):
            found[name] = Kind.DIRECTION
    return found


def _wide(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _have_length_one(outputs: Sequence[Array]) -> bool:
    if outputs[0].ndim != _MATRIX:
        return False
    lengths = np.concatenate([np.linalg.norm(v.astype(np.float64), axis=-1) for v in outputs])
    return bool(np.allclose(lengths, 1.0, rtol=_ALIKE))
