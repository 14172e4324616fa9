"""What is run for given outputs: moves between numbered slots, and what is kept between runs."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt_torch.execution.registry import Kernel

_MOST_SIGNATURES = 16
"""For how many combinations of input shapes the outcome of shape arithmetic is kept."""

Move = tuple["Kernel", tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Kernel, slots that it reads, slots that it writes, slots that nobody reads any more."""


@dataclass
class Plan:
    """Steps as moves between slots; slot 0 is an omitted input, or an output nobody wants.

    Args:
        size: number of slots.
        given: slots of what the caller hands over at each run, by name.
        taps: slots of the functions that are applied to tensors, by the tensor's name.
        constants: constants by slot.
        folded: moves that depend on constants only; made once.
        first: all other moves, for shapes that were not seen before.
        moves: those that depend on more than constants and shapes.
        decided: slots that shapes decide and that ``moves`` or the outputs read.
        outputs: slots of what is returned.
    """

    size: int = 1
    given: dict[str, int] = field(default_factory=dict)
    taps: dict[str, int] = field(default_factory=dict)
    constants: dict[int, torch.Tensor] = field(default_factory=dict)
    folded: Sequence[Move] = ()
    first: Sequence[Move] = ()
    moves: Sequence[Move] = ()
    decided: frozenset[int] = frozenset()
    outputs: tuple[int, ...] = ()
    _template: list[Any] | None = None
    _by_shape: OrderedDict[Any, list[tuple[int, Any]]] = field(default_factory=OrderedDict)

    def run(self, given: Mapping[str, torch.Tensor], taps: Mapping[str, Kernel]) -> list[Any]:
        """Return the outputs."""
        if self._template is None:
            self._template = self._folded_once()
        slots = self._template.copy()
        for name, slot in self.given.items():
            slots[slot] = given[name]
        for name, slot in self.taps.items():
            slots[slot] = taps[name]
        if self.decided:
            self._follow_by_shape(slots)
        else:
            follow(self.moves, slots)
        return [slots[s] for s in self.outputs]

    def _folded_once(self) -> list[Any]:
        slots: list[Any] = [None] * self.size
        for slot, tensor in self.constants.items():
            slots[slot] = tensor
        with torch.no_grad():
            follow(self.folded, slots)
        return slots

    def _follow_by_shape(self, slots: list[Any]) -> None:
        signature = tuple([slots[slot].shape for slot in self.given.values()])
        known = self._by_shape.get(signature)
        if known is None:
            follow(self.first, slots)
            self._by_shape[signature] = [(slot, slots[slot]) for slot in self.decided]
            while len(self._by_shape) > _MOST_SIGNATURES:
                self._by_shape.popitem(last=False)
            return
        for slot, value in known:
            slots[slot] = value
        follow(self.moves, slots)


def follow(moves: Sequence[Move], slots: list[Any]) -> None:
    """Make the moves one after the other, and let go of what nobody reads any more."""
    for kernel, ins, outs, dead in moves:
        made = kernel(*[slots[i] for i in ins])
        if len(outs) == 1:
            slots[outs[0]] = made[0] if type(made) is tuple else made
        else:
            for slot, tensor in zip(outs, made, strict=False):
                slots[slot] = tensor
            slots[0] = None
        for slot in dead:
            slots[slot] = None
