"""The accuracy guard: models judged on samples that nothing was calibrated on, with intervals."""

from graphopt.pipeline.validation.choice import name_of
from graphopt.pipeline.validation.guarantee import amount
from graphopt.pipeline.validation.guard import Guard, GuardState, open_guard
from graphopt.pipeline.validation.record import validation_record
from graphopt.pipeline.validation.samples import Validation
from graphopt.pipeline.validation.scoring import Score

__all__ = [
    "Guard",
    "GuardState",
    "Score",
    "Validation",
    "amount",
    "name_of",
    "open_guard",
    "validation_record",
]
