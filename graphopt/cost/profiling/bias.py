"""What onnxruntime's profiler adds to the times that it reports, found on whole models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphopt.cost.fitting.nnls import robust_nnls

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST = 4
"""Models or kernels that something is found from."""

_SHORT_US = 5.0
"""Kernels as short as this tell what is added to each; in longer ones it is lost in the noise."""

_LEAST = 0.1
"""Part of a profiled time that is the kernel's own, however short it is."""


@dataclass(frozen=True)
class Bias:
    """A kernel takes ``scale`` times its profiled time without ``kernel_us``.

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
        return max(self.scale * (profiled_us - self.kernel_us), _LEAST * profiled_us)


def find_bias(
    models: Sequence[tuple[float, float, int]], kernels: Sequence[tuple[float, float]] = ()
) -> Bias:
    """Return the bias that explains the times of whole models best, by relative error.

    What is added to each kernel is the median of what was added to short ones that are known
    without a profiler too; where there are too few, the whole models tell it as well.

    Args:
        models: clean time, sum of the profiled times of its kernels, number of kernels; times in
            microseconds.
        kernels: clean and profiled time of single kernels, in microseconds.
    """
    added = [profiled - clean for clean, profiled in kernels if 0 < clean < _SHORT_US]
    known = max(float(np.median(added)), 0.0) if len(added) >= _FEWEST else None
    if len(models) < _FEWEST:
        return Bias(kernel_us=known or 0.0)
    clean, profiled, count = np.array(models, dtype=float).T
    own = profiled - (known or 0.0) * count
    columns = [own, np.ones_like(clean), *([-count] if known is None else [])]
    scale, run_us, *rest = robust_nnls((np.stack(columns) / clean).T, np.ones_like(clean))
    if scale <= 0:
        return Bias()
    kernel_us = known if known is not None else float(rest[0] / scale)
    return Bias(float(scale), kernel_us, float(run_us))
