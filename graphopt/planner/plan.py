"""A plan: the passes that a recipe leaves open, with every option settled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphopt.passes.base import Pass
    from graphopt.passes.quantize.insert_qdq import InsertQdq
    from graphopt.passes.quantize.quantize_matmuls import QuantizeMatmuls
    from graphopt.passes.rewrite.align_channels import AlignChannels

FLOAT = "float"

# By name: a recipe without these passes does not import them.
_ALIGN, _EQUALIZE = "align-channels", "equalize-clipped-layers"
_INSERT, _MATMULS, _PRUNE = "insert-qdq", "quantize-matmuls", "prune-channels"
_OPEN = {_ALIGN: "mode", _EQUALIZE: "mode", _INSERT: "placement", _MATMULS: "mode"}
_SETTLED = {
    _ALIGN: ("mode",),
    _EQUALIZE: ("mode",),
    _INSERT: ("placement", "exclude", "matmuls", "align", "rounding"),
    _MATMULS: ("mode", "exclude"),
    _PRUNE: ("to", "widths", "branches"),
}
_ALWAYS = frozenset({"mode", "placement", "rounding", "to"})
"""Options that may say "auto" in the recipe, so that their default must be written too."""

_CLOSED = {_ALIGN: "off", _EQUALIZE: "off", _INSERT: FLOAT, _MATMULS: "off"}


def is_open(step: Pass) -> bool:
    """Whether a pass leaves something for the planner to decide."""
    option = _OPEN.get(step.name)
    if step.name == _INSERT and cast("InsertQdq", step).activations != "target":
        return False  # asked for by hand, and never faster
    return option is not None and getattr(step, option) == "auto"


def open_section(steps: Sequence[Pass]) -> tuple[int, int]:
    """Return the range of passes from the first to the last open one; empty when there is none."""
    found = [index for index, step in enumerate(steps) if is_open(step)]
    return (found[0], found[-1] + 1) if found else (len(steps), len(steps))


def settled_options(step: Pass) -> dict[str, Any]:
    """Return the options of a pass that the planner may have decided, for the recipe."""
    found = {name: getattr(step, name) for name in _SETTLED.get(step.name, ())}
    usual = type(step)()
    return {k: v for k, v in found.items() if v != getattr(usual, k) or k in _ALWAYS}


@dataclass(frozen=True)
class Plan:
    """Consecutive passes of a recipe as they would be run.

    Args:
        steps: the passes, in order.
        cut: which minimum cut the excluded operators come from; None for a named placement.
    """

    steps: tuple[Pass, ...]
    cut: int | None = None

    @staticmethod
    def closed(steps: Sequence[Pass]) -> Plan:
        """Return the plan that does nothing where the recipe leaves it open: all in float."""
        return Plan(tuple(_closed(s) if is_open(s) else s for s in steps))

    def having(self, name: str, *, cut: int | None = None, **options: Any) -> Plan:
        """Return the plan with other options of one pass; unchanged where it has no such pass."""
        steps = tuple(
            dataclasses.replace(s, **options) if s.name == name else s  # type: ignore[type-var]
            for s in self.steps
        )
        return Plan(steps, cut if cut is not None else self.cut)

    def placed(self, placement: str) -> Plan:
        """Return the plan with a named placement."""
        return Plan(self.having(_INSERT, placement=placement).steps)

    @property
    def insert(self) -> InsertQdq | None:
        """The pass that inserts Q and DQ."""
        return cast("InsertQdq | None", next((s for s in self.steps if s.name == _INSERT), None))

    @property
    def aligned(self) -> bool:
        """Whether channels are padded throughout."""
        aligning = (cast("AlignChannels", s) for s in self.steps if s.name == _ALIGN)
        return any(s.mode == "on" for s in aligning)

    @property
    def matmuls(self) -> str:
        """How products that are left in float are computed."""
        matmuls = (cast("QuantizeMatmuls", s) for s in self.steps if s.name == _MATMULS)
        return next((s.mode for s in matmuls), "off")

    @property
    def is_exact(self) -> bool:
        """Whether nothing is quantized."""
        insert = self.insert
        return (insert is None or insert.placement == FLOAT) and self.matmuls == "off"

    @property
    def label(self) -> str:
        """How reports call it."""
        insert = self.insert
        words = [insert.placement if insert is not None else FLOAT]
        if self.cut is not None:
            words = [f"cut-{self.cut}"]
        if self.aligned:
            words.append("aligned")
        if insert is not None and insert.placement != FLOAT and not insert.align:
            words.append("not padded")
        if insert is not None and insert.placement != FLOAT and not insert.matmuls:
            words.append("convolutions only")
        if self.matmuls != "off":
            words.append(f"matmuls {self.matmuls}")
        return ", ".join(words)


def _closed(step: Pass) -> Pass:
    closed = {_OPEN[step.name]: _CLOSED[step.name]}
    changed: Pass = dataclasses.replace(step, **closed)  # type: ignore[type-var]
    return changed
