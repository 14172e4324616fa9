"""Why a quantized layer is noisy: one sentence from the statistics of its tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphopt.analysis.signal import CodeUse, Distribution
    from graphopt.analysis.weights import WeightFacts

CLEAR_DB = 40.0
"""A layer above this needs no reason: 8 bits cannot do much better."""
_OUTLIER = 5.0
_CREST = 12.0
_UNEVEN = 8.0
_FEW_BITS = 5.5
_CLIPPED = 1e-3
_LONG_TAIL = 30.0
_LOUD_DB = 10.0
_COARSE_DB = 30.0


@dataclass(frozen=True)
class TensorUse:
    """One activation, and how its integers are used; ``use`` is None where it stays float."""

    name: str
    distribution: Distribution
    use: CodeUse | None


@dataclass(frozen=True)
class Evidence:
    """Everything that is known about one layer.

    Args:
        snr_db: isolated, over all values.
        channel_snr_db: isolated, mean over the channels.
        inputs: the activations that it reads.
        output: what it writes.
        weight: its weight, where it has one.
        shares_scale: whether all output channels of the weight have one scale.
        bias_overflows: whether a bias reached the limits of 32 bits.
        saturates: whether the target adds products in 16 bits.
    """

    snr_db: float
    channel_snr_db: float
    inputs: tuple[TensorUse, ...] = ()
    output: TensorUse | None = None
    weight: WeightFacts | None = None
    shares_scale: bool = False
    bias_overflows: bool = False
    saturates: bool = False


def reason(evidence: Evidence) -> str:
    """Return why the layer is noisy, strongest cause first, two causes at most."""
    if min(evidence.snr_db, evidence.channel_snr_db) >= CLEAR_DB:
        return "as accurate as 8 bits can be"
    causes = [*_weight_causes(evidence), *_activation_causes(evidence)]
    if not causes:
        return "no single cause: every tensor of it is rounded to its integers"
    return "; ".join(causes[:2])


def _weight_causes(evidence: Evidence) -> Iterator[str]:
    if evidence.bias_overflows:
        yield "its bias does not fit into 32 bits"
    weight = evidence.weight
    if weight is None:
        return
    if weight.outlier_ratio > _OUTLIER:
        yield (
            f"a weight of magnitude {_short(weight.peak)} is an outlier, "
            f"{_times(weight.outlier_ratio)} the 99.9th percentile of its weights"
        )
    elif weight.crest > _CREST:
        yield (
            "one output channel has an outlier among its weights, "
            f"{_times(weight.crest)} their root mean square"
        )
    if evidence.shares_scale and weight.channel_spread > _UNEVEN:
        yield (
            f"one weight scale for channels of unequal size: the largest is "
            f"{_times(weight.channel_spread)} the median"
        )
    if evidence.saturates and weight.saturating > 0:
        share = f"{100 * weight.saturating:.0f} %"
        yield f"products can saturate at 16 bits in {share} of its channels"
    if weight.snr_db is not None and weight.snr_db < _COARSE_DB:
        yield f"rounding the weight alone leaves {weight.snr_db:.0f} dB"


def _activation_causes(evidence: Evidence) -> Iterator[str]:
    ports = [("its input", i) for i in evidence.inputs]
    ports += [("its output", evidence.output)] if evidence.output is not None else []
    for what, port in ports:
        yield from _clipping(what, port)
    for what, port in ports:
        yield from _tails(what, port)
    gap = evidence.snr_db - evidence.channel_snr_db
    if gap > _LOUD_DB:
        yield (
            f"loud channels set the range: {evidence.snr_db:.0f} dB over all values, "
            f"{evidence.channel_snr_db:.0f} dB in the mean channel"
        )
    for what, port in ports:
        if not any(_tails(what, port)):
            yield from _few_codes(what, port)


def _clipping(what: str, port: TensorUse) -> Iterator[str]:
    if port.use is not None and port.use.clipped > _CLIPPED:
        yield f"{100 * port.use.clipped:.2g} % of {what} `{port.name}` are clipped"


def _tails(what: str, port: TensorUse) -> Iterator[str]:
    found = port.distribution
    if port.use is None:
        return
    bits = f"typical values use {port.use.effective_bits:.1f} of {port.use.codes.bits:.0f} bits"
    if found.outlier_ratio > _OUTLIER:
        yield (
            f"{what} `{port.name}` peaks at {_short(found.peak)}, "
            f"{_times(found.outlier_ratio)} the 99.9th percentile: {bits}"
        )
    elif found.kurtosis > _LONG_TAIL:
        yield f"{what} `{port.name}` has long tails (kurtosis {found.kurtosis:.0f}): {bits}"


def _few_codes(what: str, port: TensorUse) -> Iterator[str]:
    if port.use is not None and port.use.effective_bits < min(_FEW_BITS, port.use.codes.bits - 2):
        used = f"{port.use.effective_bits:.1f} of {port.use.codes.bits:.0f} bits"
        yield f"{what} `{port.name}` uses {used}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _times(ratio: float) -> str:
    return "far above" if math.isinf(ratio) else f"{ratio:.3g} times"
