"""What is said of pruning: the goal, what went, and in which order."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.report.quantities import count, quantity

_BRANCHES = {
    "remove": "left out",
    "drop": "its mean",
    "lin1": "one product",
    "lin3": "one 3x3 convolution",
    "merged1": "one product, skip included",
    "merged3": "one 3x3 convolution, skip included",
}
_UNITS = {"latency": "ms", "ram": "bytes", "size": "bytes"}


@dataclass(frozen=True)
class PrunedSite:
    """One thing that was taken away: units of a group, or a branch.

    ``before`` is how many units the group had, None for a branch; ``after`` how many are left, or
    what became of the branch. ``divergence`` and ``saved`` are of this change alone, the latter in
    the unit of the goal.
    """

    name: str
    before: int | None
    after: str
    divergence: float
    saved: float

    @property
    def left(self) -> str:
        """What is left, in words."""
        if self.before is None:
            return _BRANCHES.get(self.after, self.after)
        number, _, criterion = self.after.partition("@")
        return f"{number} of {self.before} units by {criterion}"


@dataclass(frozen=True)
class OrderRecord:
    """One order of pruning and quantizing, and the model that it led to.

    ``order`` is "prune-first", "quantize-first", or empty for the quantized model from which
    nothing was removed. ``figure`` is in the unit of the goal, ``divergence`` of the quantized
    outputs from those of the float model; both None where the goal was not reached, as ``why``
    says.
    """

    order: str
    figure: float | None
    divergence: float | None
    kept: bool
    why: str = ""


@dataclass(frozen=True)
class PruningRecord:
    """What was pruned to reach a goal, and what that was decided by.

    ``before``, ``limit`` and ``after`` are in the unit of ``metric``: milliseconds, a count, or
    bytes, "measured" or "estimated" by ``source``; of the float model, or of the quantized one
    where there are ``orders``. ``predicted_after`` is what the options promised
    one by one, ``predicted_divergence`` the sum of theirs. ``options`` is how many were tried, each
    scored on ``samples`` that nothing was fitted to.
    """

    goal: str
    metric: str
    before: float
    limit: float
    after: float
    predicted_after: float
    predicted_divergence: float
    source: str
    sites: tuple[PrunedSite, ...]
    options: int
    samples: int
    divergence: float | None = None
    """Of the model that was made of it, on the same samples."""
    order: str = "prune-first"
    """What the choice rests on: "quantize-first" where options were priced between integers."""
    orders: tuple[OrderRecord, ...] = ()
    """What each order that was tried led to, quantized, with the unpruned model first."""

    def amount(self, value: float) -> str:
        """Return a value of the goal with its unit."""
        unit = _UNITS.get(self.metric)
        return count(value) if unit is None else quantity(value, unit)
