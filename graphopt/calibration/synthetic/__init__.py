"""Samples for models whose data nobody has, from what their BatchNormalization nodes remember."""

from __future__ import annotations

from graphopt.calibration.synthetic.dataset import ORIGIN, SyntheticDataset, synthetic_dataset

__all__ = ["ORIGIN", "SyntheticDataset", "synthetic_dataset"]
