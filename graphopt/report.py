"""What happened, as data: everything that is printed or written to JSON is here first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class ModelFacts:
    """A model in numbers."""

    path: str
    nodes: int
    parameters: int
    size_bytes: int
    opset: int
    digest: str


@dataclass(frozen=True)
class PassRecord:
    """One pass of the compile: what it did, how it was checked, what became of it.

    ``status`` is "changed", "unchanged" or "rolled back"; ``reason`` says why for the last.
    ``max_error`` is max|difference| / max|reference| on the probe inputs (exact passes), ``snr_db``
    the signal-to-noise ratio on held-out samples (approximate ones). Exact passes that were checked
    together have one ``max_error``, and ``seconds`` without the check.
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
class Notice:
    """Something the user should know: a warning with code and hint."""

    code: str
    message: str
    hint: str | None = None


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


@dataclass(frozen=True)
class PrunedSite:
    """One thing that was taken away: units of a group, or a branch.

    ``before`` is how many units the group had, None for a branch; ``after`` how many are left, or
    what became of the branch. ``divergence`` and ``saved`` are of this change alone, the latter in
    the unit of the goal.
    """

    name: str
    before: int | None
    after: str
    divergence: float
    saved: float


@dataclass(frozen=True)
class OrderRecord:
    """One order of pruning and quantizing, and the model that it led to.

    ``order`` is "prune-first", "quantize-first", or empty for the quantized model from which
    nothing was removed. ``figure`` is in the unit of the goal, ``divergence`` of the quantized
    outputs from those of the float model; both None where the goal was not reached, as ``why``
    says.
    """

    order: str
    figure: float | None
    divergence: float | None
    kept: bool
    why: str = ""


@dataclass(frozen=True)
class PruningRecord:
    """What was pruned to reach a goal, and what that was decided by.

    ``before``, ``limit`` and ``after`` are in the unit of ``metric``: milliseconds, a count, or
    bytes, "measured" or "estimated" by ``source``; of the float model, or of the quantized one
    where there are ``orders``. ``predicted_after`` is what the options promised
    one by one, ``predicted_divergence`` the sum of theirs. ``options`` is how many were tried, each
    scored on ``samples`` that nothing was fitted to.
    """

    goal: str
    metric: str
    before: float
    limit: float
    after: float
    predicted_after: float
    predicted_divergence: float
    source: str
    sites: tuple[PrunedSite, ...]
    options: int
    samples: int
    divergence: float | None = None
    """Of the model that was made of it, on the same samples."""
    order: str = "prune-first"
    """What the choice rests on: "quantize-first" where options were priced between integers."""
    orders: tuple[OrderRecord, ...] = ()
    """What each order that was tried led to, quantized, with the unpruned model first."""


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
    seconds: float = 0.0


class Observe(Protocol):
    """Is told what a compile is doing while it does it; all of it is in the report as well."""

    def pass_started(self, name: str) -> None:
        """Take note that a pass, or a stage such as ``(calibration)``, begins."""
        ...

    def pass_finished(self, record: PassRecord) -> None:
        """Take note of what became of it."""
        ...

    def progress(self, label: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps are behind us; ``total`` is 0 where unknown."""
        ...

    def notice(self, notice: Notice) -> None:
        """Show something that the user should know."""
        ...


@dataclass(frozen=True)
class PortFacts:
    """One input or output of a model: ``shape`` as declared, ``dtype`` as a numpy name."""

    name: str
    shape: tuple[int | str | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class ModelSummary:
    """What ``inspect`` tells about a model; ``operators`` counts nodes by operator.

    ``weights`` is bytes by element type, such as ``{"float32": 1024, "int8": 512}``.
    """

    facts: ModelFacts
    inputs: tuple[PortFacts, ...]
    outputs: tuple[PortFacts, ...]
    operators: dict[str, int]
    weights: dict[str, int]
    notices: tuple[Notice, ...] = ()


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
