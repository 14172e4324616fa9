"""What graphopt itself registers for calibration, through the hooks that plugins use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.calibration.base import Observer, Reader


@hookimpl
def graphopt_register_observers() -> Sequence[type[Observer]]:
    """Return the observers that come with graphopt."""
    from graphopt.calibration.observers import Entropy, MinMax, MovingAverage, Mse, Percentile

    return [MinMax, MovingAverage, Percentile, Entropy, Mse]


@hookimpl
def graphopt_register_readers() -> Sequence[type[Reader]]:
    """Return the readers that come with graphopt."""
    from graphopt.calibration.sources import BUILTIN_READERS

    return [type(reader) for reader in BUILTIN_READERS]
