"""Energy of one inference: joules where a board was measured, else only ratios of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.cost.base import EnergyParts
from graphopt.types import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.cost.base import Estimate, KernelCost
    from graphopt.targets.base import Target


def energy_parts(
    latency_ms: float, kernels: Sequence[KernelCost], target: Target, *, weights_in_cache: bool
) -> EnergyParts | None:
    """Return where the energy of one inference goes; None when the target says nothing about it.

    E = P * t + sum of e_mac[dtype] * products + e_byte * bytes, in millijoules. Bytes are those of
    all kernels where the model does not stay in the cache, and none where it does. The constants
    and their sources are the target's (``Energy``).
    """
    energy = target.energy
    if energy is None:
        return None
    products = sum(energy.pj_per_mac.get(k.dtype, 0.0) * k.macs for k in kernels)
    moved = 0 if weights_in_cache else sum(k.bytes_moved for k in kernels)
    return EnergyParts(
        running_mj=energy.active_watts * latency_ms,
        products_mj=products * 1e-9,
        memory_mj=energy.dram_pj_per_byte * moved * 1e-9,
    )


def energy_mj(latency_ms: Figure, parts: EnergyParts | None, target: Target) -> Figure | None:
    """Return millijoules of one inference; None unless the target's power was measured.

    The interval is that of the latency.
    """
    if parts is None or target.energy is None or not target.energy.measured:
        return None
    watts = target.energy.active_watts
    rest = parts.products_mj + parts.memory_mj
    return Figure(
        value=parts.total_mj,
        low=watts * latency_ms.low + rest,
        high=watts * latency_ms.high + rest,
        source="estimated",
        basis=f"measured power of {watts * 1e3:g} mW times the estimated latency",
    )


def relative_energy(before: Estimate, after: Estimate) -> Figure | None:
    """Return the energy of ``after`` in units of that of ``before``, on one target.

    The ratio of two sums of the same parts lies between the least and the greatest ratio of a part,
    whatever the constants are; those are the interval, without parts that the first model did not
    have. None when the target says nothing about energy, or nothing was spent before.
    """
    old, new = before.energy_parts, after.energy_parts
    if old is None or new is None or old.total_mj <= 0:
        return None
    pairs = [
        (old.running_mj, new.running_mj),
        (old.products_mj, new.products_mj),
        (old.memory_mj, new.memory_mj),
    ]
    ratios = [n / o for o, n in pairs if o > 0]
    value = new.total_mj / old.total_mj
    return Figure(
        value=value,
        low=min(*ratios, value),
        high=max(*ratios, value),
        source="estimated",
        basis="relative to the input model, joules are not known; between the ratios of time, of "
        "products and of bytes",
    )
