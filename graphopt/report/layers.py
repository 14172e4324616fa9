"""What is said of each layer: what it was, what became of it, what it costs, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.report.quantization import LayerSensitivity


@dataclass(frozen=True)
class KernelRecord:
    """One call of the runtime, as the cost model expects it.

    ``node`` is the operator that does the work, empty for a copy between layouts; ``nodes`` how
    many of the graph it covers. ``precision`` is what the arithmetic is done in. ``latency_us`` is
    estimated, in microseconds. ``reads`` are the positions of the kernels whose results it reads.
    """

    node: str
    op: str
    kernel: str
    precision: str
    latency_us: float
    nodes: int
    reads: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerRecord:
    """One kernel of the original beside what does its work in the result.

    ``kernel_before`` is empty for work that the result has and the original had not, and
    ``kernel_after`` where nothing does it any more: it was removed, or is done by another kernel.
    ``channels_...`` count the units of the result of a product, None elsewhere. Latencies are
    estimated, in microseconds, of all kernels that the layer became. ``snr_db`` is the
    signal-to-noise ratio of the layer alone where it was measured, in dB.
    """

    node: str
    op: str
    kernel_before: str
    kernel_after: str
    precision_before: str
    precision_after: str
    channels_before: int | None
    channels_after: int | None
    latency_before_us: float
    latency_after_us: float
    snr_db: float | None = None
    why: str = ""


@dataclass(frozen=True)
class SensitivityRecord:
    """The noise of each integer layer of the result, on ``samples`` calibration samples.

    ``layers`` come worst first; ``outputs`` is the ratio of each output of the model, in dB.
    """

    samples: int
    layers: tuple[LayerSensitivity, ...]
    outputs: dict[str, float]


@dataclass(frozen=True)
class KernelsRecord:
    """The kernels of the original and of the result, in order of execution."""

    before: tuple[KernelRecord, ...]
    after: tuple[KernelRecord, ...]
