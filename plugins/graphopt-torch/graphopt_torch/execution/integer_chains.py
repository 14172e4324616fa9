"""Finds the operators between quantized tensors that a runtime computes in integers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from graphopt.types import DType
from graphopt_torch.execution.element_types import RANGES
from graphopt_torch.execution.integer_steps import MEAN, Chain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt_torch.execution.planning import Wish
    from graphopt_torch.execution.steps import Step

Tensor = torch.Tensor
_BYTES = {DType.INT8, DType.UINT8, DType.INT4, DType.UINT4, DType.INT2, DType.UINT2}
_PRODUCTS = {"Conv", "Gemm", "MatMul"}
_EPSILON = float(torch.finfo(torch.float32).eps)


def in_integers(
    wish: Wish, steps: Sequence[Step], constants: Mapping[str, Tensor]
) -> Sequence[Step]:
    """Return the steps of a plan with those between quantized tensors computed in integers.

    Whatever is wanted, given or tapped stays a tensor of its own, in floats.
    """
    if not any(step.op == "QuantizeLinear" for step in steps):
        return steps
    return _Finder(wish, steps, constants).rewritten()


class _Finder:
    def __init__(self, wish: Wish, steps: Sequence[Step], constants: Mapping[str, Tensor]) -> None:
        self.steps = steps
        self.constants = constants
        self.given = wish.given
        self.seen = wish.given | wish.tapped | frozenset(wish.outputs)
        self.changed = wish.given | wish.tapped
        self.maker = {name: s for s in steps for name in s.outputs if name}
        self.readers: dict[str, int] = {}
        for step in steps:
            for name in step.inputs:
                self.readers[name] = self.readers.get(name, 0) + 1

    def rewritten(self) -> list[Step]:
        chains = {id(s): c for s in self.steps if (c := self._chain(s)) is not None}
        gone = {id(s) for chain in chains.values() for s in chain.replaced}
        made: dict[str, Step] = {}
        kept: list[Step] = []
        for step in self.steps:
            chain = chains.get(id(step))
            if chain is not None:
                new = [s for s in chain.steps(self.constants) if s.outputs[0] not in made]
                made.update((s.outputs[0], s) for s in new)
                kept.extend(new)
            elif id(step) not in gone:
                kept.append(self._without_rectifier(step))
        return _read(kept, self.seen)

    def _chain(self, step: Step) -> Chain | None:
        """Return the chain that a QuantizeLinear ends."""
        if step.op != "QuantizeLinear" or not self._has_one_scale(step):
            return None
        above, activation = self._inner_maker(step), None
        if above is not None and self._is_needless(above, step):
            above, activation = self._inner_maker(above), above
        if above is None:
            return None
        if above.op == MEAN:
            operands = self._operands(above, 1)
            return None if operands is None else Chain(above, operands, None, activation, step)
        return self._product(above, activation, step)

    def _product(self, heavy: Step, activation: Step | None, quantize: Step) -> Chain | None:
        if heavy.op not in _PRODUCTS or not _is_plain(heavy):
            return None
        operands = self._operands(heavy, 2)
        if operands is None or not self._runs_over_outputs(heavy, operands[1]):
            return None
        bias = None
        if any(heavy.inputs[2:]):
            bias = self._dequantizer(heavy.inputs[2])
            if bias is None or bias.options["kind"] is not DType.INT32:
                return None
        return Chain(heavy, operands, bias, activation, quantize)

    def _operands(self, heavy: Step, count: int) -> tuple[Step, ...] | None:
        found = [self._dequantizer(name) for name in heavy.inputs[:count]]
        steps = tuple(s for s in found if s is not None and s.options["kind"] in _BYTES)
        return steps if len(steps) == count and self._has_one_scale(steps[0]) else None

    def _dequantizer(self, name: str) -> Step | None:
        step = self.maker.get(name)
        if step is None or step.op != "DequantizeLinear" or name in self.changed:
            return None
        return step

    def _inner_maker(self, step: Step) -> Step | None:
        """Return what makes a step's input, where nobody else has to do with that."""
        name = step.inputs[0]
        return self.maker.get(name) if self.readers[name] == 1 and name not in self.seen else None

    def _has_one_scale(self, step: Step) -> bool:
        scale = self.constants.get(step.inputs[1])
        return (
            scale is not None
            and scale.numel() == 1
            and scale.dtype is torch.float32
            and not step.options.get("block_size")
            and step.options["kind"] in _BYTES
        )

    def _runs_over_outputs(self, heavy: Step, weight: Step) -> bool:
        """Whether the scales of the second operand, if many, are those of the outputs."""
        scale, codes = (self.constants.get(n) for n in (weight.inputs[1], weight.inputs[0]))
        if scale is None or scale.dtype is not torch.float32 or weight.options.get("block_size"):
            return False
        if scale.numel() == 1:
            return True
        if codes is None:
            return False
        axis = int(weight.options.get("axis", 1)) % codes.dim()
        if heavy.op == "Conv" or heavy.options.get("transB"):
            return axis == 0
        return codes.dim() == 2 and axis == 1

    def _is_needless(self, activation: Step, quantize: Step) -> bool:
        """Whether the range of what is rounded does all that a Relu or Clip before it does."""
        if activation.op not in {"Relu", "Clip"}:
            return False
        least, most = self._range(quantize)
        if activation.op == "Relu":
            return least >= 0
        low, high = (self._bound(activation, i) for i in (1, 2))
        return low <= least + _EPSILON and most <= high + _EPSILON

    def _range(self, quantize: Step) -> tuple[float, float]:
        """Return the numbers that the least and the greatest integer stand for."""
        zero = self._number(quantize.inputs[2]) if any(quantize.inputs[2:3]) else 0.0
        scale, kind = self._number(quantize.inputs[1]), quantize.options["kind"]
        if zero is None or scale is None or kind not in RANGES:
            return -math.inf, math.inf
        low, high = RANGES[kind]
        return scale * (low - zero), scale * (high - zero)

    def _bound(self, clip: Step, place: int) -> float:
        """Return a bound of Clip; the wrong infinity where it is not known beforehand."""
        stated = clip.options.get("min" if place == 1 else "max")
        if stated is not None:
            return float(stated)
        open_end = -math.inf if place == 1 else math.inf
        if len(clip.inputs) <= place or not clip.inputs[place]:
            return open_end
        known = None if clip.inputs[place] in self.changed else self._number(clip.inputs[place])
        return -open_end if known is None else known

    def _number(self, name: str) -> float | None:
        stored = self.constants.get(name)
        return None if stored is None or stored.numel() != 1 else float(stored.item())

    def _without_rectifier(self, step: Step) -> Step:
        """Return a QuantizeLinear that reads what is before an activation it makes needless."""
        if step.op != "QuantizeLinear":
            return step
        above = self._inner_maker(step)
        if above is None or not self._is_needless(above, step):
            return step
        return replace(step, inputs=(above.inputs[0], *step.inputs[1:]))


def _is_plain(heavy: Step) -> bool:
    """Whether a Gemm has neither factors nor a first operand that is transposed."""
    options = heavy.options
    return (
        options.get("alpha", 1.0) == 1.0
        and options.get("beta", 1.0) == 1.0
        and not options.get("transA", 0)
    )


def _read(steps: Sequence[Step], wanted: frozenset[str]) -> list[Step]:
    """Return the steps that make what others read, or what is wanted."""
    needed = set(wanted)
    kept = []
    for step in reversed(steps):
        if needed.intersection(step.outputs):
            needed.update(step.inputs)
            kept.append(step)
    return kept[::-1]
