"""A device's profile from a few whole-model measurements, with another device as the prior."""

from __future__ import annotations

from graphopt.cost.transfer.columns import columns, group_of
from graphopt.cost.transfer.device import MINIMUM_MODELS, Measured, transfer
from graphopt.cost.transfer.posterior import Posterior, Prior, fit, log_times
from graphopt.cost.transfer.prior_curves import target_curves

__all__ = [
    "MINIMUM_MODELS",
    "Measured",
    "Posterior",
    "Prior",
    "columns",
    "fit",
    "group_of",
    "log_times",
    "target_curves",
    "transfer",
]
