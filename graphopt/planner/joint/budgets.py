"""What a model may cost, as the user states it: 5ms, 0.6x, 320KB, 1MB, 2mJ."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from graphopt.errors import RecipeError
from graphopt.passes.prune.goal import BYTE_UNITS
from graphopt.recipe.suggest import suggestion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.planner.joint.candidates import Figures
    from graphopt.targets.base import Memory

_TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_JOULES = {"uJ": 1e-3, "mJ": 1.0, "J": 1e3}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "max_latency": _TIMES,
    "max_size": BYTE_UNITS,
    "max_ram": BYTE_UNITS,
    "max_energy": _JOULES,
}
_EXAMPLES = {
    "max_latency": "5ms or 0.6x",
    "max_size": "500KB, 1MiB or 0.25x",
    "max_ram": "320KB or 0.5x",
    "max_energy": "2mJ or 0.5x",
}
_FIGURE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Bound:
    """One upper bound: in ms, bytes or mJ, or as a share of what the original has.

    ``text`` is as the user wrote it.
    """

    value: float
    relative: bool
    text: str

    def of(self, original: float) -> float:
        """Return the bound as a figure."""
        return self.value * original if self.relative else self.value


@dataclass(frozen=True)
class Budgets:
    """Upper bounds of what a model costs; None where nothing was stated."""

    max_latency: Bound | None = None
    max_size: Bound | None = None
    max_ram: Bound | None = None
    max_energy: Bound | None = None

    @classmethod
    def parse(cls, stated: Mapping[str, str | float | None]) -> Budgets:
        """Return the budgets that were stated, by option name such as ``max_latency``.

        A figure without a unit is milliseconds, bytes or mJ; ``x`` is times the original's. Bytes
        have the units of the goals of pruning: kB is 1000 of them, KB and KiB are 1024.

        Raises:
            RecipeError: G103, a figure is not one, or its unit does not belong there.
        """
        found = {k: _bound(k, v) for k, v in stated.items() if v is not None}
        return cls(**found)

    def check_energy(self, original: Figures) -> None:
        """Raise RecipeError G103 when joules are stated and those of the target are not known."""
        bound = self.max_energy
        known = original.energy is not None
        if bound is None or (known and (bound.relative or original.energy_unit == "mJ")):
            return
        raise RecipeError(
            f"`{bound.text}` cannot be judged: the target's energy is "
            + ("known as a share only" if known else "not known"),
            code="G103",
            where="--max-energy",
            hint="write a share, such as 0.5x" if known else "choose a target that has figures",
        )

    @property
    def stated(self) -> dict[str, str]:
        """What was stated, as it was written, by option."""
        bounds = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k.replace("_", "-"): b.text for k, b in bounds.items() if b is not None}

    def within(self, memory: Memory) -> Budgets:
        """Return the budgets with those limits of a target that are tighter, or not stated.

        Shares of the original are kept: they are what was asked for.
        """
        size = _tighter(self.max_size, memory.storage_limit_bytes)
        return replace(self, max_size=size, max_ram=_tighter(self.max_ram, memory.ram_limit_bytes))

    def excesses(self, figures: Figures, original: Figures) -> dict[str, float]:
        """Return by how much a model exceeds each bound it exceeds: 1.2 is 20 % too much."""
        have = _costs(figures)
        base = _costs(original)
        found = {}
        for name, cost in have.items():
            bound = getattr(self, name)
            if bound is not None and cost is not None:
                limit = bound.of(base[name] or 0.0)
                if cost > limit:
                    found[name] = cost / limit if limit else float("inf")
        return found


def _costs(figures: Figures) -> dict[str, float | None]:
    return {
        "max_latency": figures.latency_ms,
        "max_size": float(figures.size_bytes),
        "max_ram": float(figures.ram_bytes),
        "max_energy": figures.energy,
    }


def _tighter(stated: Bound | None, limit: int | None) -> Bound | None:
    if limit is None or (stated is not None and (stated.relative or stated.value <= limit)):
        return stated
    return Bound(float(limit), relative=False, text=f"{limit}")


def _bound(name: str, stated: str | float) -> Bound:
    if name not in _UNITS:
        raise RecipeError(
            f"`{name}` is no budget", code="G103", hint=suggestion(name, _UNITS, "budgets")
        )
    text = str(stated)
    match = _FIGURE.fullmatch(text)
    unit = match.group(2) if match else ""
    units = _UNITS[name]
    if match is None or unit not in {"", "x", *units} or not float(match.group(1)) > 0:
        raise RecipeError(
            f"`{text}` is not a budget for `{name.replace('_', '-')}`",
            code="G103",
            where=f"--{name.replace('_', '-')}",
            hint=f"write {_EXAMPLES[name]}",
        )
    value = float(match.group(1)) * (1.0 if unit in {"", "x"} else units[unit])
    return Bound(value, unit == "x", text)
