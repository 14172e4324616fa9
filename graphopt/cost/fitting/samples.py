"""Measured kernels as samples of a fit: what was measured, where, and how much it counts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphopt.cost.profiling.measurements import CHAIN
from graphopt.cost.terms import ALONE, Around

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt.cost.profiling.measurements import KernelRow, Measurements
    from graphopt.cost.signature import Signature

CHAIN_WEIGHT = 0.2
"""What a kernel in a chain of its like counts: its tensors are nearer than those in a model."""

CHAIN_LENGTH = 4
"""Copies of a kernel that lie in a chain at the least: their weights compete for the caches."""


@dataclass(frozen=True)
class Sample:
    """One measured kernel.

    Args:
        signature: what decides its time.
        us: that time, in microseconds.
        source: samples of one source are not independent.
        around: what was executed together with it.
        weight: how much it counts.
    """

    signature: Signature
    us: float
    source: str
    around: Around = ALONE
    weight: float = 1.0


def samples_of(measurements: Measurements, threads: int, activations: str) -> tuple[Sample, ...]:
    """Return the kernels that were measured with a number of threads, equal ones merged.

    Args:
        measurements: of one device.
        threads: that are wanted.
        activations: element type of integer activations on the target: kernels with others are
            left out.
    """
    rows = [
        row for row in measurements.rows
        if row.threads == threads and row.activations in {"", activations} and row.min_us > 0
    ]  # fmt: skip
    around = _around(rows)
    return merged(
        Sample(
            row.signature,
            row.min_us,
            row.source,
            around[row.source, row.context],
            CHAIN_WEIGHT if row.context == CHAIN else 1.0,
        )
        for row in rows
    )


def merged(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return one sample for all equal kernels of one source: their mean time."""
    equal: dict[tuple[Signature, str, Around], list[Sample]] = defaultdict(list)
    for sample in samples:
        equal[sample.signature, sample.source, sample.around].append(sample)
    return tuple(
        replace(some[0], us=sum(sample.us for sample in some) / len(some))
        for some in equal.values()
    )


def _around(rows: Sequence[KernelRow]) -> Mapping[tuple[str, str], Around]:
    """Return what was executed together, by source and context."""
    nbytes: dict[tuple[str, str], int] = defaultdict(int)
    us: dict[tuple[str, str], float] = defaultdict(float)
    for row in rows:
        copies = CHAIN_LENGTH if row.context == CHAIN else 1
        nbytes[row.source, row.context] += row.signature.weight_bytes * copies
        us[row.source, row.context] += row.min_us * copies
    return {key: Around(nbytes[key], us[key]) for key in nbytes}
