"""From measurements of a device to its profile: curves of kernels, intervals, thread scaling."""

from __future__ import annotations

from graphopt.cost.fitting.device import fit
from graphopt.cost.fitting.nnls import nnls, robust_nnls

__all__ = ["fit", "nnls", "robust_nnls"]
