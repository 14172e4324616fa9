"""What shapes, element types and small whole-number tensors of a graph are, with symbols."""

from __future__ import annotations

from graphopt.ir.inference.engine import Inference, inference_of
from graphopt.ir.inference.fact import Fact

__all__ = ["Fact", "Inference", "inference_of"]
