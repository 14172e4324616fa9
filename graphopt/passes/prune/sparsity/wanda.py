"""Weights times the inputs that they meet: the criterion that needs the power of each input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def wanda(weight: Array, second: Array) -> Array:
    """Return w^2 E[x^2]: the error of the output if only this weight were 0.

    Sun, Liu, Bair and Kolter, "A Simple and Effective Pruning Approach for Large Language Models"
    (ICLR 2024), section 3: |w| times the norm of its input, compared within each output.

    Args:
        weight: float [groups, outputs, features].
        second: E[x x^T] of the inputs, float64 [groups, features, features].
    """
    power = np.diagonal(second, axis1=1, axis2=2)
    return np.asarray(np.square(weight.astype(np.float64)) * power[:, None, :])
