"""What is trained on: unlabelled samples in memory, in batches, altered where that is safe."""

from __future__ import annotations

from graphopt_torch.samples.augmentation import Augmentation
from graphopt_torch.samples.training_samples import TrainingSamples

__all__ = ["Augmentation", "TrainingSamples"]
