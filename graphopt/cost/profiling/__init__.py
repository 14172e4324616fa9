"""Measuring a device: the models that are timed, and what their times say about its kernels."""

from __future__ import annotations

from graphopt.cost.profiling.measurements import Drift, KernelRow, Measurements, ModelRow

__all__ = ["Drift", "KernelRow", "Measurements", "ModelRow"]
