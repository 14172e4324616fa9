"""What is said of integers: how each layer takes them, and what was returned to float."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.report.models import Notice


@dataclass(frozen=True)
class LayerSensitivity:
    """How much noise the quantization of one operator makes, and why.

    Signal-to-noise ratios are in dB against the float model: ``isolated_db`` with this operator
    quantized alone (None where it cannot be told from its neighbours), ``cumulative_db`` in the
    fully quantized model. ``..._channel_db`` is the mean over the output channels of their own
    ratio, which shows where one loud channel hides that the others are lost. ``facts`` is what the
    reasons rest on, by name.
    """

    node: str
    op: str
    isolated_db: float | None
    isolated_channel_db: float | None
    cumulative_db: float
    cumulative_channel_db: float
    why: str
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def worst_db(self) -> float:
        """The lower of the two isolated ratios, which operators are ranked by."""
        found = (self.isolated_db, self.isolated_channel_db)
        known = [x for x in found if x is not None]
        return min(known) if known else self.cumulative_db


@dataclass(frozen=True)
class QuantizationAnalysis:
    """What ``analyze`` tells about a quantized model; ``layers`` come worst first.

    ``outputs`` is the signal-to-noise ratio of each output of the model in dB, ``floats`` the heavy
    operators that are not quantized, with the reason where it is known.
    """

    model: str
    reference: str
    target: str
    data: str
    samples: int
    layers: tuple[LayerSensitivity, ...]
    outputs: dict[str, float]
    floats: dict[str, str]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class ReturnedOperator:
    """An operator that was returned to float, its own ratio in dB, and why."""

    node: str
    isolated_db: float | None
    why: str


@dataclass(frozen=True)
class PrecisionRecord:
    """What was done to keep the stated accuracy.

    ``before`` and ``after`` are the accuracy, in ``unit``, of the quantized model without and with
    ``returned`` in float; ``limit`` is the lowest that was allowed. ``models`` is how many were
    made and checked. ``kept`` is False where only the float model was accurate enough.
    """

    measure: str
    unit: str
    limit: float
    before: float
    after: float
    returned: tuple[ReturnedOperator, ...]
    models: int
    kept: bool
    basis: str = ""
