"""How much of each layer is to go, so that the model gets as fast as asked and loses least."""

from __future__ import annotations

from graphopt.planner.pruning.quantizer import Quantizer, settle_quantization
from graphopt.planner.pruning.search import PruningDecision, choose_pruning

__all__ = ["PruningDecision", "Quantizer", "choose_pruning", "settle_quantization"]
