"""What is said of two models beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.report.compiling import PassRecord


@dataclass(frozen=True)
class BenchResult:
    """One interleaved timing run, medians in milliseconds: ``a`` is the model, ``b`` the other one.

    ``ratio`` is ms_b / ms_a, so that more than 1 means that the model is faster; ``low`` and
    ``high`` bound it at about 90 %.
    """

    model: str
    ms_a: float
    runs: int
    threads: int
    basis: str
    against: str | None = None
    ms_b: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of two models is apart.

    ``max_abs`` is max|a - b|, ``max_rel`` that divided by max|a|, ``snr_db`` is
    10 log10(sum a^2 / sum (a - b)^2), infinite when the outputs are equal.
    """

    name: str
    max_abs: float
    max_rel: float
    snr_db: float


@dataclass(frozen=True)
class PartingRecord:
    """The first tensor at which two graphs differ; all that it is computed from is equal.

    ``max_rel`` is max|a - b| / max|a|, ``place`` the index of the largest difference and ``values``
    what is there in both. ``nodes_a`` and ``nodes_b`` compute it from ``agreed``, or from the
    inputs. ``sample`` is the number of the input that shows it, from 0. ``optimized`` says that
    both are equal as long as the runtime's optimiser takes no part. ``compared`` is how many
    tensors were looked at.
    """

    tensor: str
    other: str
    max_rel: float
    place: tuple[int, ...] | None
    values: tuple[float, float] | None
    agreed: tuple[str, ...]
    nodes_a: tuple[str, ...]
    nodes_b: tuple[str, ...]
    sample: int
    shapes: dict[str, tuple[int, ...]]
    optimized: bool
    compared: int


@dataclass(frozen=True)
class Bisection:
    """What made two models differ: the pass where there was a recipe, and the tensor."""

    tolerance: float
    passes: tuple[PassRecord, ...] = ()
    guilty: str | None = None
    parting: PartingRecord | None = None


@dataclass(frozen=True)
class DiffResult:
    """How two models differ, in what they compute and in how they are built."""

    outputs: tuple[OutputDifference, ...]
    structural: tuple[str, ...]
    samples: int
    basis: str
    bisection: Bisection | None = None
