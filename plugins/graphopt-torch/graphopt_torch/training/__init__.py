"""Steps of training: how fast, how long, what is kept, and how it goes on after an interruption."""

from __future__ import annotations

from graphopt_torch.training.checkpoint import Checkpoint
from graphopt_torch.training.loop import Trained, train
from graphopt_torch.training.schedule import Schedule

__all__ = ["Checkpoint", "Schedule", "Trained", "train"]
