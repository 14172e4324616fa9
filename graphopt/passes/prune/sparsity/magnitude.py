"""Small weights matter least: the criterion that needs no data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def magnitude(weight: Array) -> Array:
    """Return w^2, of the shape of ``weight``.

    Han, Pool, Tran and Dally, "Learning both Weights and Connections for Efficient Neural
    Networks" (NeurIPS 2015), order weights by |w|; squares order alike, and add up in blocks.
    """
    return np.square(weight.astype(np.float64))
