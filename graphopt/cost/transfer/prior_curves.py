"""A target's peaks as kernel curves: what is believed of a device before it is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.targets.profile import KernelCurve

if TYPE_CHECKING:
    from graphopt.targets.base import Compute, Target

_PRODUCT_KINDS = ("conv", "pointwise", "depthwise", "grouped", "gemm", "gemv", "attention")
_LONG_SUMS = frozenset({"conv", "pointwise", "grouped", "gemm", "attention"})
"""Classes whose integer sums are requantized at the end: short sums cost more."""

# Work per element in float32 multiply-accumulates at the elementwise rate, by class: the middle of
# what graphopt.cost.work lists per operator.
_ELEMENT_WORK = {
    "elementwise": ("element", 1.0), "reduction": ("element", 20.0), "pool": ("visit", 1.5),
    "movement": ("element", 2.0), "quantize": ("element", 6.0), "gather": ("element", 1.0),
    "other": ("element", 5.0), "any": ("element", 5.0),
}  # fmt: skip

_US_PER_S = 1e6


def target_curves(target: Target) -> dict[str, KernelCurve]:
    """Return one curve per precision and class of kernels, from the target's peaks.

    t = call + macs / rate + outputs * K_half / rate + bytes / bandwidth: the sum where the roofline
    takes the larger, so that every part can be scaled by itself.
    """
    curves = {}
    for dtype in ("float32", "float16", "int8"):
        for kind in _PRODUCT_KINDS:
            curves[f"{dtype}.{kind}"] = KernelCurve(_product_terms(target, dtype, kind))
        for kind in _ELEMENT_WORK:
            curves[f"{dtype}.{kind}"] = KernelCurve(_element_terms(target, kind))
    return curves


def _product_terms(target: Target, dtype: str, kind: str) -> dict[str, float]:
    compute = target.compute
    rate = _rate(compute, dtype, kind)
    found = {"mac": 1e6 / rate * _US_PER_S, **_shared_terms(target)}
    half = compute.reduction_half.get(dtype, 0.0)
    if half and kind in _LONG_SUMS:
        found["out"] = half * 1e3 / rate * _US_PER_S
    return found


def _element_terms(target: Target, kind: str) -> dict[str, float]:
    term, work = _ELEMENT_WORK[kind]
    rate = _rate(target.compute, "float32", "elementwise")
    return {term: work * 1e3 / rate * _US_PER_S, **_shared_terms(target)}


def _shared_terms(target: Target) -> dict[str, float]:
    """Return the cost of a call and of a kilobyte from the cache and from main memory."""
    near = _US_PER_S * 1e3 / (target.memory.cache_gb_s * 1e9)
    far = max(_US_PER_S * 1e3 / (target.memory.dram_gb_s * 1e9) - near, 0.0)
    return {
        "call": target.compute.dispatch_us,
        "moved": near,
        "spilled": far,
        "weight": near,
        "cold_weight": far,
    }


def _rate(compute: Compute, dtype: str, kind: str) -> float:
    """Return multiply-accumulates per second of one core."""
    peak = compute.macs_per_cycle.get(dtype, compute.macs_per_cycle["float32"])
    keys = (f"{dtype}.{kind}", f"{dtype}.default", "float32.default")
    fraction = next((compute.efficiency[k] for k in keys if k in compute.efficiency), 1.0)
    return peak * compute.frequency_ghz * 1e9 * fraction
