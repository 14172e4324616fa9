"""Whether a model fits into the memory of a microcontroller, and what stands in the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.cost.planning.plan import MemoryPlan
    from graphopt.targets.base import Target

_NAMED = 3
"""Steps and tensors that a verdict names."""


@dataclass(frozen=True)
class Fit:
    """Memory that a model needs and that there is, in bytes; None where nobody set a limit.

    Args:
        ram_bytes: the plan's arena. The runtime's own state and kernels' scratch come on top.
        ram_limit: what activations may take.
        flash_bytes: weights and graph. Code of the runtime comes on top.
        flash_limit: what weights and graph may take.
        crowded: the steps that are above the RAM limit, with bytes, the worst first.
        largest: tensors alive at the worst step, with bytes, the largest first.
        hopeless: whether some step needs more than the limit by itself, so that no order and no
            placement can help: that operator has to become smaller.
    """

    ram_bytes: int
    ram_limit: int | None
    flash_bytes: int
    flash_limit: int | None
    crowded: tuple[tuple[str, int], ...] = ()
    largest: tuple[tuple[str, int], ...] = ()
    hopeless: bool = False

    @property
    def fits_ram(self) -> bool:
        """Whether activations fit."""
        return self.ram_limit is None or self.ram_bytes <= self.ram_limit

    @property
    def fits_flash(self) -> bool:
        """Whether weights and graph fit."""
        return self.flash_limit is None or self.flash_bytes <= self.flash_limit

    @property
    def fits(self) -> bool:
        """Whether both do."""
        return self.fits_ram and self.fits_flash


def fit(
    plan: MemoryPlan,
    stored_bytes: int,
    target: Target | None = None,
    *,
    max_ram: int | None = None,
    max_flash: int | None = None,
) -> Fit:
    """Return whether a plan and what is stored fit.

    Args:
        plan: of the activations.
        stored_bytes: weights and graph, such as ``Estimate.size_bytes``.
        target: its limits hold where none are given.
        max_ram: bytes of RAM for activations.
        max_flash: bytes of flash for weights and graph.
    """
    if target is not None:
        max_ram = target.memory.ram_limit_bytes if max_ram is None else max_ram
        max_flash = target.memory.storage_limit_bytes if max_flash is None else max_flash
    steps = plan.crowded(max_ram)[:_NAMED] if max_ram is not None else ()
    if max_ram is not None and plan.peak_bytes > max_ram and not steps and plan.steps:
        steps = (plan.peak_step,)  # alive fits, but not its placement
    alive = plan.alive_at(steps[0]) if steps else ()
    return Fit(
        ram_bytes=plan.peak_bytes,
        ram_limit=max_ram,
        flash_bytes=stored_bytes,
        flash_limit=max_flash,
        crowded=tuple((plan.steps[i], plan.pressure[i]) for i in steps),
        largest=tuple((" = ".join(b.tensors), b.nbytes) for b in alive[:_NAMED]),
        hopeless=max_ram is not None and plan.step_bytes > max_ram,
    )
