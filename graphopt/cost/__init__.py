"""Estimates of latency, memory, size and energy of a graph on a target."""

from __future__ import annotations

from graphopt.cost.base import CostModel, Estimate, KernelCost
from graphopt.cost.kernels import Kernel, group_kernels
from graphopt.cost.roofline import Roofline

__all__ = ["CostModel", "Estimate", "Kernel", "KernelCost", "Roofline", "group_kernels"]
