"""Makes plans: which steps outputs need, what is computed once, and when tensors can go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import torch

from graphopt_torch.execution.integer_chains import in_integers
from graphopt_torch.execution.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from graphopt_torch.execution.plan import Move
    from graphopt_torch.execution.registry import Kernel
    from graphopt_torch.execution.steps import Step

    Unfreed = tuple[Kernel, tuple[int, ...], tuple[int, ...]]


class _Rests(IntEnum):
    """What a tensor rests on."""

    CONSTANTS = 0
    SHAPES = 1
    VALUES = 2


@dataclass(frozen=True)
class Wish:
    """What decides about a plan, by name: outputs wanted, tensors given, tensors tapped."""

    outputs: tuple[str, ...]
    given: frozenset[str]
    tapped: frozenset[str]


def plan(wish: Wish, steps: Sequence[Step], constants: Mapping[str, torch.Tensor]) -> Plan:
    """Return the plan of a wish."""
    planner = _Planner(wish, constants)
    for step in in_integers(wish, _needed(wish, steps), constants):
        planner.add(step)
    return planner.finish()


def _needed(wish: Wish, steps: Sequence[Step]) -> list[Step]:
    wanted = set(wish.outputs)
    found = []
    for step in reversed(steps):
        if any(name in wanted and name not in wish.given for name in step.outputs if name):
            found.append(step)
            wanted.update(step.inputs)
    return found[::-1]


class _Planner:
    """Gives slots to names, and sorts moves by what they rest on."""

    def __init__(self, wish: Wish, constants: Mapping[str, torch.Tensor]) -> None:
        self.wish = wish
        self.stored = constants
        self.made = Plan()
        self.slots: dict[str, int] = {}
        self.rests: dict[int, _Rests] = {0: _Rests.CONSTANTS}
        self.irregular: set[int] = set()
        self.listed: dict[int, int] = {}
        self.moves: list[tuple[_Rests, Unfreed]] = []

    def add(self, step: Step) -> None:
        """Append the moves of a step."""
        tensors = [self._slot(name) for name in step.inputs]
        ins = [self._list_of(s) if i in step.lists else s for i, s in enumerate(tensors)]
        rests = max((self.rests[s] for s in tensors), default=_Rests.CONSTANTS)
        if step.of_shape and rests is _Rests.VALUES and tensors[0] not in self.irregular:
            rests = _Rests.SHAPES
        outs = [self._new(name, rests) for name in step.outputs]
        self.moves.append((rests, (step.kernel, tuple(ins), tuple(outs))))
        if rests is _Rests.VALUES and self._is_irregular(step, tensors):
            self.irregular.update(s for s in outs if s)
        for name, slot in zip(step.outputs, outs, strict=True):
            if slot:
                self._tap(name, slot)

    def _is_irregular(self, step: Step, tensors: list[int]) -> bool:
        return (
            step.irregular
            or any(self.rests[tensors[i]] is _Rests.VALUES for i in step.lists)
            or any(s in self.irregular for s in tensors)
        )

    def _new(self, name: str, rests: _Rests) -> int:
        """Return a slot for what a step makes; 0 where it is not wanted."""
        if not name or name in self.wish.given:
            return 0
        return self._take(name, rests)

    def _take(self, name: str, rests: _Rests) -> int:
        slot = self.made.size
        self.made.size += 1
        if name:
            self.slots[name] = slot
        self.rests[slot] = rests
        return slot

    def _slot(self, name: str) -> int:
        """Return the slot of a tensor that is read; what no step made is given or stored."""
        if not name:
            return 0
        slot = self.slots.get(name)
        if slot is not None:
            return slot
        if name in self.wish.given:
            slot = self._take(name, _Rests.VALUES)
            self.made.given[name] = slot
        else:
            slot = self._take(name, _Rests.CONSTANTS)
            self.made.constants[slot] = self.stored[name]
        self._tap(name, slot)
        return slot

    def _tap(self, name: str, slot: int) -> None:
        if name not in self.wish.tapped:
            return
        tap = self._take("", _Rests.VALUES)
        self.made.taps[name] = tap
        self.rests[slot] = _Rests.VALUES
        self.moves.append((_Rests.VALUES, (_apply, (tap, slot), (slot,))))

    def _list_of(self, slot: int) -> int:
        """Return the slot that holds a tensor's values as Python numbers."""
        if slot not in self.listed:
            rests = self.rests[slot]
            self.listed[slot] = self._take("", rests)
            self.moves.append((rests, (torch.Tensor.tolist, (slot,), (self.listed[slot],))))
        return self.listed[slot]

    def finish(self) -> Plan:
        """Return the plan."""
        made = self.made
        made.outputs = tuple([self._slot(name) for name in self.wish.outputs])
        kept = set(made.outputs)
        folded = [m for rests, m in self.moves if rests is _Rests.CONSTANTS]
        others = [(rests, m) for rests, m in self.moves if rests is not _Rests.CONSTANTS]
        moves = [m for rests, m in others if rests is _Rests.VALUES]
        shaped = _written(m for rests, m in others if rests is _Rests.SHAPES)
        made.decided = frozenset(shaped & (_read(moves) | kept))
        made.folded = _freed(folded, kept | _read(m for _, m in others))
        made.first = _freed([m for _, m in others], kept | made.decided)
        made.moves = _freed(moves, kept)
        return made


def _apply(tap: Any, tensor: torch.Tensor) -> Any:
    return tap(tensor)


def _written(moves: Iterable[Unfreed]) -> set[int]:
    return {slot for _, _, outs in moves for slot in outs if slot}


def _read(moves: Iterable[Unfreed]) -> set[int]:
    return {slot for _, ins, _ in moves for slot in ins if slot}


def _freed(moves: Sequence[Unfreed], kept: set[int]) -> list[Move]:
    """Return the moves with the slots that each is the last to read or write."""
    later = set(kept) | {0}
    freed: list[Move] = []
    own = _written(moves)
    for kernel, ins, outs in reversed(moves):
        dead = {s for s in (*ins, *outs) if s in own and s not in later}
        later.update(dead)
        freed.append((kernel, ins, outs, tuple(sorted(dead))))
    return freed[::-1]
