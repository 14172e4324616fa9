"""Time of one kernel: the roofline of compute with tile padding against bytes over bandwidth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphopt.cost.shapes import elements, nbytes
from graphopt.cost.work import CONVOLUTIONS, copy_work, element_work, macs_of, product_of

if TYPE_CHECKING:
    from graphopt.cost.kernels import Kernel
    from graphopt.cost.layout import LayoutCopy
    from graphopt.cost.work import Product
    from graphopt.targets.base import Compute, Target

_DOT_LENGTH = 4
"""Integer dot products take four channels at once, on x86 as on Arm."""

_DIRECT_BITS = 4
"""Width of weights that float arithmetic reads as they are packed."""

_UNPACK_WORK = 70.0
"""Per weight: 1.3 ns on Zen 4 at accuracy level 0, onnxruntime 1.31.1, 256 x 256 to 512 x 512."""

_US_PER_S = 1e6


@dataclass(frozen=True)
class KernelTime:
    """Latency of one kernel in microseconds and what it rests on."""

    latency_us: float
    macs: int
    bytes_moved: int


def kernel_time(kernel: Kernel, target: Target, *, weights_in_cache: bool) -> KernelTime:
    """Return the time of a kernel on one core.

    t = dispatch + max(W_pad / (f * P[dtype] * eta), bytes / bandwidth), where W_pad counts
    multiply-accumulates with channels rounded up to the target's blocks, and eta is the efficiency
    of the kernel class, divided by 1 + K_half / K for sums of K products.

    Args:
        kernel: what the runtime executes.
        target: peaks, efficiencies and bandwidths.
        weights_in_cache: whether weights stay in the cache from one inference to the next.
    """
    weights = sum(nbytes(v) for v in kernel.constants)
    activations = 0 if kernel.is_view else _activation_bytes(kernel)
    seconds = max(
        _compute_seconds(kernel, target.compute),
        _transfer_seconds(weights, activations, target, weights_in_cache=weights_in_cache),
    )
    latency = target.compute.dispatch_us + seconds * _US_PER_S
    macs = macs_of(kernel.node)
    return KernelTime(latency, macs, weights + activations)


def copy_time(copy: LayoutCopy, target: Target) -> KernelTime:
    """Return the time of changing a tensor's memory layout."""
    moved = 2 * nbytes(copy.value)
    rate = _rate(target.compute, "float32", ("float32.movement", "float32.elementwise"))
    seconds = max(
        copy_work(elements(copy.value)) / rate,
        _transfer_seconds(0, moved, target, weights_in_cache=True),
    )
    return KernelTime(target.compute.dispatch_us + seconds * _US_PER_S, 0, moved)


def efficiency_keys(kernel: Kernel, compute: Compute) -> tuple[str, ...]:
    """Return the names under which a kernel's efficiency is looked up, first match wins."""
    special: tuple[str, ...] = (f"{kernel.dtype}.{kernel.name}",)
    if _is_unaligned(kernel, compute):
        special = (*special, f"{kernel.dtype}.unaligned")
    return (*special, f"{kernel.dtype}.{kernel.kind}")


def _compute_seconds(kernel: Kernel, compute: Compute) -> float:
    product = product_of(kernel.node)
    keys = efficiency_keys(kernel, compute)
    if product is None:
        # Work without products runs on the vector unit's float rate, whatever the element type.
        work = element_work(kernel.node, kernel.name) + macs_of(kernel.node)
        return work / _rate(compute, "float32", (*keys, "float32.elementwise"))
    half = 0.0
    if kernel.kind not in {"depthwise", "gemv"}:
        half = compute.reduction_half.get(kernel.dtype, 0.0)
    shortness = 1.0 + half / max(product.reduction, 1)
    rate = _rate(compute, kernel.dtype, (*keys, f"{kernel.dtype}.default"))
    unpacking = _unpacking_work(kernel, product) / _rate(compute, "float32", ("float32.default",))
    return _padded_macs(kernel, product, compute) * shortness / rate + unpacking


def _unpacking_work(kernel: Kernel, product: Product) -> float:
    """Return the work of unpacking weights of other than 4 bits for float arithmetic, every run."""
    if kernel.name != "MatMulNBits" or kernel.dtype == "int8":
        return 0.0
    stored = (v.dtype.bits for v in kernel.constants if v.dtype is not None)
    bits = kernel.node.attribute("bits", min(stored, default=8))
    return 0.0 if bits == _DIRECT_BITS else product.columns * product.inputs * _UNPACK_WORK


def _rate(compute: Compute, dtype: str, keys: tuple[str, ...]) -> float:
    """Return multiply-accumulates per second of one core."""
    peak = compute.macs_per_cycle.get(dtype, compute.macs_per_cycle["float32"])
    found = (compute.efficiency[key] for key in keys if key in compute.efficiency)
    fraction = next(found, compute.efficiency.get("float32.default", 1.0))
    return peak * compute.frequency_ghz * 1e9 * fraction


def _padded_macs(kernel: Kernel, product: Product, compute: Compute) -> int:
    """Return the multiply-accumulates with channels rounded up to what the kernel processes."""
    block = compute.alignment.get(kernel.dtype, 1)
    if kernel.kind == "depthwise":
        channels = _round_up(product.columns * product.groups, block)
        return product.rows * product.reduction * channels
    columns, inputs = _round_up(product.columns, block), product.inputs
    if kernel.layout == "blocked" and inputs >= block:
        inputs = _round_up(inputs, block)
    return product.rows * columns * inputs * product.window * product.groups


def _is_unaligned(kernel: Kernel, compute: Compute) -> bool:
    """Whether an integer convolution misses the fused kernel and takes im2col and a product."""
    product = product_of(kernel.node)
    if kernel.dtype != "int8" or product is None or kernel.node.op not in CONVOLUTIONS:
        return False
    if kernel.kind not in {"conv", "pointwise"}:
        return False
    short = product.columns < compute.alignment.get("int8", 1)
    return short or product.inputs % _DOT_LENGTH > 0 or product.columns % _DOT_LENGTH > 0


def _activation_bytes(kernel: Kernel) -> int:
    if kernel.kind == "gather":  # reads only what it takes
        return 2 * sum(nbytes(v) for v in kernel.writes)
    return sum(nbytes(v) for v in (*kernel.reads, *kernel.writes))


def _transfer_seconds(
    weights: int, activations: int, target: Target, *, weights_in_cache: bool
) -> float:
    memory = target.memory
    fits = activations <= memory.cache_bytes
    weight_rate = memory.cache_gb_s if weights_in_cache else memory.dram_gb_s
    activation_rate = memory.cache_gb_s if fits else memory.dram_gb_s
    return weights / (weight_rate * 1e9) + activations / (activation_rate * 1e9)


def _round_up(value: int, block: int) -> int:
    return math.ceil(value / block) * block
