"""What a search tries, and what became of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.report import ScoreRecord


@dataclass(frozen=True)
class Candidate:
    """One way to compile the model.

    Args:
        label: how reports call it.
        overrides: values of the recipe, "pass.option=value" each.
        recipe: a preset in place of the recipe that was asked for; empty for that.
        measured: its passes were chosen by timing on this machine, not by the estimate.
        trainer: what trains it, with its version; empty where nothing is trained.
    """

    label: str
    overrides: tuple[str, ...] = ()
    recipe: str = ""
    measured: bool = False
    trainer: str = ""

    @property
    def is_pruned(self) -> bool:
        """Whether anything is removed."""
        return any(told.startswith("prune-channels.") for told in self.overrides)

    def having(self, label: str, *overrides: str) -> Candidate:
        """Return the candidate with further overrides."""
        return dataclasses.replace(self, label=label, overrides=(*self.overrides, *overrides))

    def key(self, basis: str) -> str:
        """Return the name of what this makes of a model: 32 hexadecimal digits.

        Args:
            basis: digest of all else that the result depends on: model, data, recipe, target,
                versions.
        """
        told = [basis, self.recipe, sorted(self.overrides), self.measured]
        told += [self.trainer] if self.trainer else []
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Figures:
    """What a model costs: milliseconds, bytes of the file and of activations, and energy.

    ``energy`` is in mJ, or a ratio to the original's where joules are not known, as ``energy_unit``
    says; None where nothing is known of it.
    """

    latency_ms: float
    size_bytes: int
    ram_bytes: int
    energy: float | None = None
    energy_unit: str = "x"


@dataclass(frozen=True)
class Made:
    """One candidate, made and judged.

    Args:
        candidate: what was tried.
        key: its name in the store.
        figures: on the target; None where it failed.
        score: on as many validation samples as it was judged on; None where it failed.
        digest: SHA-256 of the model file; empty where it failed.
        report: of its compile, as ``graphopt.report.stored`` writes it.
        fault: why there is no model.
        seconds: that making and judging took.
        reused: whether an earlier run had made it.
    """

    candidate: Candidate
    key: str
    figures: Figures | None = None
    score: ScoreRecord | None = None
    digest: str = ""
    report: str = ""
    fault: str = ""
    seconds: float = 0.0
    reused: bool = False
