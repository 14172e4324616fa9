"""The importance protocol: what a criterion is shown of a group, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from graphopt.analysis.coupling import Consumer, Producer

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ConsumerView:
    """A matrix product that sums over the units: y = x W + b.

    A convolution is one by its windows (im2col): a unit then owns as many features as the kernel
    has taps. A grouped convolution has one view for each group.

    Args:
        consumer: which operator.
        weight: float64 [features, outputs].
        unit: the unit of each feature, -1 where it is of another group; int64 [features].
        second: E[x^T x] over calibration rows, float64 [features, features]; None without data.
        mean: E[x], float64 [features]; None without data.
        rows: calibration rows that the two are means of.
    """

    consumer: Consumer
    weight: Array
    unit: Array
    second: Array | None = None
    mean: Array | None = None
    rows: int = 0


@dataclass(frozen=True)
class ProducerView:
    """Weights that make the units.

    Args:
        producer: which operator.
        weight: float64 [indices, weights of one].
        unit: the unit of each index, -1 where it is of another group; int64 [indices].
    """

    producer: Producer
    weight: Array
    unit: Array


@dataclass(frozen=True)
class Evidence:
    """Everything that is known of one group.

    Args:
        units: how many it has.
        consumers: who sums over them.
        producers: whose weights make them.
        seed: of every random choice.
    """

    units: int
    consumers: tuple[ConsumerView, ...]
    producers: tuple[ProducerView, ...]
    seed: int = 0


@runtime_checkable
class Importance(Protocol):
    """One criterion; a frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    def scores(self, evidence: Evidence, kept: Array) -> Array:
        """Return how much is lost when each unit goes; units with the smallest go first.

        Args:
            evidence: what is known of the group.
            kept: units that are still there, bool [units]; criteria that look at one unit at a time
                may ignore it.

        Returns:
            float64 [units], at least 0; of units that are gone it does not matter. Scores of groups
            are compared, so they are shares: of the power of what the consumers compute, say.
        """
        ...
