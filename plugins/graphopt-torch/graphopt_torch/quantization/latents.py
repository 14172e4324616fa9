"""Numbers with gradients that stand for what a graph stores, and what becomes of them there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphopt.analysis.saturation import PAIR_LIMIT
from graphopt.types import DType
from graphopt_torch.execution.straight_through import replaced, rounded
from graphopt_torch.quantization.stored_integers import spread

if TYPE_CHECKING:
    from graphopt.ir import Tensor as Stored
    from graphopt_torch.quantization.stored_integers import StoredIntegers

    Array = np.ndarray[Any, Any]

Tensor = torch.Tensor

_MARGIN = 1e-3
"""How far a latent weight starts from the edge of its rounding cell, in steps."""

_LARGEST_BIAS = float(2**31 - 1)


class FloatLatent:
    """A float constant that is trained as it is.

    Elements of a weight that are exactly zero stay so: pruning or padding has put them there.

    Args:
        name: of the initializer.
        stored: what the graph holds.
        keep_zeros: whether zeros stay.
        device: of the parameter.
    """

    def __init__(self, name: str, stored: Stored, *, keep_zeros: bool, device: str) -> None:
        numbers = np.asarray(stored.array(), dtype=np.float32)
        self.name = name
        self.dtype = stored.dtype
        self.parameter = torch.nn.Parameter(torch.from_numpy(np.array(numbers)).to(device))
        self._start = self.parameter.detach().clone()
        self._exact = np.asarray(stored.array())
        zeros = self._start == 0
        self._alive = (~zeros).to(torch.float32) if keep_zeros and bool(zeros.any()) else None

    def value(self) -> Tensor:
        """Return the constant as the graph would hold it; differentiable."""
        made = self.parameter if self._alive is None else self.parameter * self._alive
        return made.to(_HELD[self.dtype])

    def array(self) -> Array:
        """Return the constant in its own type; the very same numbers where nothing was learned."""
        with torch.no_grad():
            made = self.value()
            moved = (self.parameter != self._start).cpu().numpy()
        numbers = made.to(torch.float64 if self.dtype is DType.DOUBLE else torch.float32)
        found = numbers.cpu().numpy().astype(self._exact.dtype)
        return np.where(moved, found, self._exact)


_HELD = {
    DType.FLOAT: torch.float32,
    DType.FLOAT16: torch.float16,
    DType.BFLOAT16: torch.bfloat16,
    DType.DOUBLE: torch.float64,
}


class IntegerLatent:
    """A float weight that rounds to the integers that a graph stores.

    integer = round(clamp(w / s + z, low, high)), halves to even. It starts inside of the rounding
    cell of every stored integer: nothing learned is nothing changed, to the bit.

    Source: Esser et al. 2020, arXiv:1902.08153 (LSQ), eq. 1 to 5.

    Args:
        facts: what is stored.
        reference: the float weight that the integers were rounded from, where that is known.
        device: of the parameter.
    """

    def __init__(self, facts: StoredIntegers, reference: Array | None, device: str) -> None:
        self.facts = facts
        self.name = facts.name
        self._zero = _on(facts.zero, device)
        self._stored = _on(facts.integers.astype(np.float32), device)
        fixed = _fixed(facts, reference)
        self._fixed = torch.from_numpy(fixed).to(device) if fixed.any() else None
        scales = spread_scales(facts, facts.scales.astype(np.float64))
        start = (starting_steps(facts, reference) * scales).astype(np.float32)
        self.parameter = torch.nn.Parameter(_on(start, device))

    def integers(self, scale: Tensor) -> Tensor:
        """Return the integers as floats, with gradients to the weight and to its scales."""
        wide = self._spread(scale)
        safe = torch.where(wide == 0, torch.ones_like(wide), wide)
        steps = rounded(self.parameter / safe + self._zero, self.facts.low, self.facts.high)
        if self._fixed is not None:
            steps = torch.where(self._fixed, self._stored, steps)
        return steps if self.facts.pairs is None else separated(steps, self.facts.pairs)

    def values(self, scale: Tensor) -> dict[str, Tensor]:
        """Return what ``Program.run`` takes for the weight: integers, or the dequantized matrix."""
        made = self.integers(scale)
        if self.facts.layout == "blocks":
            made = ((made - self._zero) * self._spread(scale))[:, : self.facts.columns]
        return dict.fromkeys(self.facts.given, made)

    def array(self, scale: Tensor) -> Array:
        """Return the integers; int64."""
        with torch.no_grad():
            found: Array = self.integers(scale).cpu().numpy().astype(np.int64)
        return found

    def _spread(self, scale: Tensor) -> Tensor:
        rank, axis, block = self.facts.integers.ndim, self.facts.axis, self.facts.block
        if scale.numel() == 1 and not block:
            return scale.reshape((1,) * rank)
        if block:
            wide = scale.reshape(self.facts.scales.shape).repeat_interleave(block, axis)
            return wide.narrow(axis, 0, self.facts.integers.shape[axis])
        return scale.reshape([-1 if i == axis else 1 for i in range(rank)])


def _fixed(facts: StoredIntegers, reference: Array | None) -> Array:
    """Say of each integer whether it stays: padding, blocks of scale 0, and weights pruned to 0."""
    scales = spread_scales(facts, facts.scales)
    found = np.broadcast_to(scales == 0, facts.integers.shape).copy()
    if facts.layout == "blocks":
        found[:, facts.columns :] = True
    if reference is not None:
        found |= (reference == 0) & (facts.integers == facts.zero)
    return found


def starting_steps(facts: StoredIntegers, reference: Array | None = None) -> Array:
    """Return w / s at the start; float64, inside of the cells of the stored integers.

    The float weight is taken where it is known, and moved into the cell where rounding was not to
    the nearest; at the bounds of the range it is cut off, so that gradients reach all weights.
    """
    exact = facts.integers - facts.zero.astype(np.float64)
    if reference is None:
        return exact
    wide = spread_scales(facts, facts.scales.astype(np.float64))
    alive = np.broadcast_to(wide != 0, exact.shape)
    steps = np.divide(reference, wide, out=exact.copy(), where=alive)
    half = 0.5 - _MARGIN
    steps = np.clip(steps, exact - half, exact + half)
    return np.asarray(np.clip(steps, facts.low - facts.zero, facts.high - facts.zero))


def spread_scales(facts: StoredIntegers, scales: Array) -> Array:
    """Return scales in a shape that goes with the integers."""
    return spread(scales, facts.integers, facts.axis, facts.block)


def separated(integers: Tensor, axis: int) -> Tensor:
    """Return integers of which no two neighbours of one sign sum up to more than 16 bits hold.

    Both of a pair go towards zero by half of the excess. Their gradients then pass towards zero
    only, as nothing else would change anything. See ``graphopt.analysis.saturation``.

    Args:
        integers: a weight, at most 127 in magnitude, as floats.
        axis: of the outputs.
    """
    with torch.no_grad():
        moved = integers.movedim(axis, 0)
        shape = moved.shape
        last = moved.movedim(1, -1) if moved.dim() > 2 and axis == 0 else moved
        rows = last.reshape(shape[0], -1).clone()
        for start in (0, 1):
            stop = start + (rows.shape[1] - start) // 2 * 2
            left, right = rows[:, start:stop:2], rows[:, start + 1 : stop : 2]
            over = ((left + right).abs() - PAIR_LIMIT).clamp(min=0)
            sign = torch.sign(left + right)
            left -= sign * torch.ceil(over / 2)
            right -= sign * torch.floor(over / 2)
        back = rows.reshape(last.shape)
        back = back.movedim(-1, 1) if moved.dim() > 2 and axis == 0 else back
        kept = back.movedim(0, axis)
    if torch.equal(kept, integers):
        return integers
    made: Tensor = _Inward.apply(integers, kept)  # type: ignore[no-untyped-call]
    return made


class _Inward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(smooth, kept)
        return kept.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        smooth, kept = ctx.saved_tensors
        passes = (smooth == kept) | (gradients[0] * torch.sign(smooth) > 0)
        return gradients[0] * passes, None


class BiasLatent:
    """A bias in float that is stored as int32 at the scale of the sums that it is added to.

    integer = round(b / s). What 32-bit floats cannot hold of the stored integers is kept beside
    the parameter, so that they come back exactly.
    """

    def __init__(self, facts: StoredIntegers, device: str) -> None:
        self.facts = facts
        self.name = facts.name
        self._zero = _on(facts.zero.astype(np.float64), device)
        exact = (facts.integers - facts.zero) * spread_scales(
            facts, facts.scales.astype(np.float64)
        )
        start = exact.astype(np.float32)
        self.parameter = torch.nn.Parameter(_on(start, device))
        self._rest = _on(exact - start.astype(np.float64), device)

    def integers(self, scale: Tensor) -> Tensor:
        """Return the integers as float64, with gradients to the bias and to its scale."""
        rank = self.facts.integers.ndim
        wide = torch.where(scale == 0, torch.ones_like(scale), scale).double()
        if scale.numel() == 1:
            wide = wide.reshape((1,) * rank)
        elif rank > 1:
            wide = wide.reshape([-1 if i == self.facts.axis else 1 for i in range(rank)])
        steps = (self.parameter.double() + self._rest) / wide + self._zero
        kept = steps.clamp(-_LARGEST_BIAS, _LARGEST_BIAS)
        return replaced(kept, kept.round())

    def values(self, scale: Tensor) -> dict[str, Tensor]:
        """Return what ``Program.run`` takes for the bias; float32."""
        return dict.fromkeys(self.facts.given, self.integers(scale).float())

    def array(self, scale: Tensor) -> Array:
        """Return the integers; int64."""
        with torch.no_grad():
            found: Array = self.integers(scale).cpu().numpy().astype(np.int64)
        return found


def _on(values: Array, device: str) -> Tensor:
    kind = np.float64 if values.dtype == np.float64 else np.float32
    return torch.from_numpy(np.array(values, dtype=kind)).to(device)
