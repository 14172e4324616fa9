"""What onnxruntime's profiler adds to the times that it reports, found on whole models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.cost.fitting.nnls import robust_nnls

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 4
"""Models that three unknowns are found from."""

_LEAST = 0.1
"""Part of a profiled time that is the kernel's own, however short it is."""


@dataclass(frozen=True)
class Bias:
    """A kernel takes ``scale`` times its profiled time less ``kernel_us``.

    Args:
        scale: below 1 where the profiler slows kernels down.
        kernel_us: what the profiler adds to each kernel.
        run_us: what an inference takes besides its kernels.
    """

    scale: float = 1.0
    kernel_us: float = 0.0
    run_us: float = 0.0

    def corrected(self, profiled_us: float) -> float:
        """Return the time of a kernel without the profiler; a part of it is left in any case."""
        return max(self.scale * profiled_us - self.kernel_us, _LEAST * profiled_us)


def find_bias(models: Sequence[tuple[float, float, int]]) -> Bias:
    """Return the bias that explains the times of whole models best, by relative error.

    Args:
        models: clean time, sum of the profiled times of its kernels, number of kernels; times in
            microseconds.
    """
    if len(models) < _FEWEST:
        return Bias()
    clean, profiled, count = np.array(models, dtype=float).T
    columns = np.stack([profiled, -count, np.ones_like(clean)]) / clean
    scale, kernel_us, run_us = robust_nnls(columns.T, np.ones_like(clean))
    return Bias(float(scale), float(kernel_us), float(run_us)) if scale > 0 else Bias()
