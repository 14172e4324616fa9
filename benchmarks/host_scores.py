"""Tables of the host benchmark that need nothing but measured and predicted kernels."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from graphopt.cost.fitting.intervals import conformal
from latency_scores import scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from host_latency import Measured

TIMES_US = (0.0, 150.0, 1.5e3, 6e3, 20e3)
"""Where the groups of networks begin that show what caches forget."""

_SMALL = 3000
_SMALL_BYTES = 12_000
_SMALL_WINDOW = 30
"""Elements, bytes and window up to which a kernel takes little but its start."""

_LONG_WEIGHTS = 100_000
"""Bytes of weights from which a product with a vector takes little but reading them."""


def score(pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Return the scores of (predicted, measured) pairs."""
    made, actual = (np.array(column) for column in zip(*pairs, strict=True))
    found = scores(made, actual) | {
        "median_error": 100 * float(np.median(np.abs(made / actual - 1))), "networks": len(pairs)
    }  # fmt: skip
    return {key: round(value, 4) for key, value in found.items()}


def coverage(pairs: dict[str, tuple[str, float, float]]) -> dict[str, float]:
    """Return how many networks lie in an interval made of the networks of other families.

    Args:
        pairs: family, predicted and measured time by network.
    """
    inside, width = [], []
    for family, made, actual in pairs.values():
        others = [a / m for f, m, a in pairs.values() if f != family]
        low, high = conformal(others)
        inside.append(low * made <= actual <= high * made)
        width.append(high / low)
    return {
        "covered": round(100 * float(np.mean(inside)), 2),
        "median_high_over_low": round(float(np.median(width)), 3),
    }


def classes(
    everything: list[Measured], kernels: dict[str, list[float]]
) -> dict[str, dict[str, float]]:
    """Return by dtype and kind of kernel: its share of all time, and its error in that."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    for one in everything:
        for signature, made, us in zip(
            one.signatures, kernels[one.net.name], one.truth, strict=True
        ):
            entry = sums[f"{signature.dtype}.{signature.kind}"]
            for place, value in enumerate((us, made, abs(made - us), 1)):
                entry[place] += float(value)
    return {
        key: {"kernels": int(count), "ms": round(us / 1e3, 3), "predicted_over_measured":
              round(made / us, 3), "absolute_error": round(off / us, 3)}
        for key, (us, made, off, count) in sorted(sums.items(), key=lambda item: -item[1][0])
    }  # fmt: skip


def forgetting(everything: Sequence[Measured]) -> list[dict[str, float]]:
    """Return by time of the network: what small kernels take, how fast weights are read."""
    found = []
    for low, high in zip(TIMES_US, (*TIMES_US[1:], float("inf")), strict=True):
        pairs = [
            (signature, float(us))
            for one in everything if low <= one.us < high
            for signature, us in zip(one.signatures, one.truth, strict=True)
        ]  # fmt: skip
        small = [
            us for s, us in pairs
            if s.product is None and s.elements < _SMALL and s.read_bytes < _SMALL_BYTES
            and s.window < _SMALL_WINDOW
        ]  # fmt: skip
        rates = [
            s.weight_bytes / us / 1e3 for s, us in pairs
            if s.kernel in {"Gemm", "FusedGemm"} and s.kind == "gemv"
            and s.weight_bytes > _LONG_WEIGHTS
        ]  # fmt: skip
        found.append({
            "from_us": low, "small_kernels": len(small), "median_us": _median(small),
            "products": len(rates), "median_gb_s": _median(rates),
        })  # fmt: skip
    return found


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 2) if values else 0.0
