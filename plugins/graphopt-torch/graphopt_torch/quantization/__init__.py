"""What is trained of float and quantized graphs, rounded as the runtime will round it."""

from __future__ import annotations

from graphopt_torch.quantization.batch_norms import reestimate_batch_norms
from graphopt_torch.quantization.float_reference import float_graph
from graphopt_torch.quantization.trainable_weights import GROUPS, TrainableWeights

__all__ = [
    "GROUPS",
    "TrainableWeights",
    "float_graph",
    "reestimate_batch_norms",
]
