"""Energy of one inference, where the target says what it draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.types import Figure

if TYPE_CHECKING:
    from graphopt.targets.base import Target


def energy_mj(latency_ms: Figure, bytes_moved: int, target: Target) -> Figure | None:
    """Return millijoules of one inference; None when the target has no energy figures.

    E = P_active * t + e_byte * bytes. The interval is that of the latency.
    """
    energy = target.energy
    if energy is None:
        return None
    moved = energy.dram_pj_per_byte * bytes_moved * 1e-9
    power = "measured" if energy.measured else "published"
    return Figure(
        value=energy.active_watts * latency_ms.value + moved,
        low=energy.active_watts * latency_ms.low + moved,
        high=energy.active_watts * latency_ms.high + moved,
        source="estimated",
        basis=f"{power} power of {energy.active_watts * 1e3:g} mW times the estimated latency",
    )
