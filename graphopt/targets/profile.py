"""A device profile: what was measured on one device, as curves of few parameters; plain data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class KernelCurve:
    """Time of one class of kernels: a sum of terms that only grow with the kernel's sizes.

    t = sum of coefficient * term, in microseconds; every coefficient is at least 0, so that a
    larger kernel is never predicted to be faster.

    Args:
        terms: microseconds per unit of each term, by the term's name (graphopt.cost.terms).
        low: the 5 % quantile of measured over predicted time, of kernels held out of the fit.
        high: the 95 % quantile.
        points: measurements behind it.
    """

    terms: dict[str, float]
    low: float = 0.5
    high: float = 2.0
    points: int = 0


@dataclass(frozen=True)
class DeviceProfile:
    """What one device needs for each kind of kernel.

    Args:
        device: what it is called, with its processor.
        base: target whose rules it follows; its peaks price what no curve covers.
        runtime: name and version of what executed the measurements.
        threads: threads that they were taken with.
        governor: the processor's frequency policy; empty where it is not told.
        curves: by name, from exact ones such as "int8.QLinearAdd.channels_last" to "int8.any"; a
            kernel takes the first of its names that exists (graphopt.cost.terms.curve_keys).
        run_us: fixed cost of one inference, in microseconds.
        speedup: time with one thread over time with ``n`` threads of long kernels, by n.
        grain_us: one-thread time below which a kernel is not divided among threads.
        keep_us: time in which the last cache forgets all but 1/e of what is not used, because
            others use it too; 0 where nothing is forgotten.
        low: the 5 % quantile of measured over predicted time of whole models.
        high: the 95 % quantile.
        notes: what a reader should know: drift that was seen, what is missing.
        digest: SHA-256 of the measurements.
    """

    device: str
    base: str
    runtime: str
    threads: int
    governor: str
    curves: dict[str, KernelCurve]
    run_us: float = 0.0
    speedup: dict[str, float] = field(default_factory=dict)
    grain_us: float = 0.0
    keep_us: float = 0.0
    low: float = 0.7
    high: float = 1.4
    notes: tuple[str, ...] = ()
    digest: str = ""
    schema: int = 1
