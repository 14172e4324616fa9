"""What is said of a whole compile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.report.layers import KernelsRecord, LayerRecord, SensitivityRecord
    from graphopt.report.models import ModelFacts, Notice
    from graphopt.report.pruning import PruningRecord
    from graphopt.report.quantization import PrecisionRecord
    from graphopt.report.recovering import RecoveryRecord
    from graphopt.report.validating import ValidationRecord


@dataclass(frozen=True)
class PassRecord:
    """One pass of the compile: what it did, how it was checked, what became of it.

    ``status`` is "changed", "unchanged" or "rolled back"; ``reason`` says why for the last.
    ``max_error`` is max|difference| / max|reference| on the probe inputs (exact passes), ``snr_db``
    the signal-to-noise ratio on held-out samples (approximate ones). Exact passes that were checked
    together have one ``max_error``, and ``seconds`` without the check. ``settled`` are the options
    that repeat what it did, where those it was given left that open.
    """

    name: str
    effect: str
    options: dict[str, Any]
    status: str
    seconds: float
    notes: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    max_error: float | None = None
    snr_db: float | None = None
    settled: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OperatorRecord:
    """How the runtime will execute one heavy operator of the compiled model."""

    node: str
    op: str
    execution: str
    """``integer``, ``weight-only`` (float arithmetic on weights in few bits), or ``float``."""
    kernel: str
    reason: str | None = None


@dataclass(frozen=True)
class Explanation:
    """Why something did, or did not, happen to a node."""

    node: str
    by: str
    reason: str


@dataclass(frozen=True)
class CandidateRecord:
    """One placement of integer operators that was considered.

    ``speedup`` is the latency of the optimised float model divided by that of the candidate; None
    where it was ruled out before it was timed, for the reason in ``why``.
    """

    placement: str
    speedup: float | None
    source: str
    snr_db: float | None
    chosen: bool
    why: str = ""


@dataclass(frozen=True)
class FigureRecord:
    """A quantity before and after; ``source`` is "estimated" or "measured", ``basis`` on what."""

    name: str
    unit: str
    before: float
    after: float
    source: str
    basis: str
    low: float | None = None
    """Lower end of the interval of ``after`` (about 90 %)."""
    high: float | None = None


@dataclass(frozen=True)
class CalibrationRecord:
    """The data that the ranges rest on."""

    origin: str
    samples: int
    held_out: int
    digest: str
    observer: str
    preprocessing: dict[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """The whole compile."""

    graphopt: str
    versions: dict[str, str]
    machine: dict[str, Any]
    target: str
    source: ModelFacts
    result: ModelFacts
    recipe: str
    """The resolved recipe as TOML: all that is needed to repeat the result."""
    passes: tuple[PassRecord, ...]
    operators: tuple[OperatorRecord, ...]
    figures: tuple[FigureRecord, ...]
    candidates: tuple[CandidateRecord, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    notices: tuple[Notice, ...] = ()
    calibration: CalibrationRecord | None = None
    precision: PrecisionRecord | None = None
    pruning: PruningRecord | None = None
    layers: tuple[LayerRecord, ...] = ()
    kernels: KernelsRecord | None = None
    sensitivity: SensitivityRecord | None = None
    """Noise per layer, where it was asked for and there was data."""
    validation: ValidationRecord | None = None
    """How accuracy was judged, where a largest drop was stated."""
    recovery: tuple[RecoveryRecord, ...] = ()
    """What was trained, in order."""
    seconds: float = 0.0
