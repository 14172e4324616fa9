"""The graph executed by torch, with gradients to everything it stores."""

from __future__ import annotations

from graphopt_torch.execution.as_executed import quantized_tensors
from graphopt_torch.execution.element_types import to_torch
from graphopt_torch.execution.operators.blockwise import dequantized_name
from graphopt_torch.execution.program import Program
from graphopt_torch.execution.unsupported import unsupported

__all__ = ["Program", "dequantized_name", "quantized_tensors", "to_torch", "unsupported"]
