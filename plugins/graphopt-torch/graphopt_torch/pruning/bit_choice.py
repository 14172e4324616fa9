"""Bits as probabilities: each integer weight is a mixture of itself and of itself in four bits.

Weights of four bits are kept in the file and expanded to the eight bits that are computed with when
the model is loaded (``store-weights``): they save bytes, no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from graphopt import ir
from graphopt.passes.quantize.storage.expand import expand
from graphopt.passes.quantize.storage.few_bits import curvatures, in_four_bits
from graphopt.passes.quantize.storage.weights import stored_weights
from graphopt.types import DType
from graphopt_torch.execution.straight_through import replaced

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.quantize.storage.weights import Weight
    from graphopt_torch.quantization import TrainableWeights

    Array = np.ndarray[Any, Any]

SMALLEST = 1024
"""Elements that a weight has at least to be worth it, as in ``store-weights``."""
SAVED = 1.0 - (0.5 + 2.0 / 32.0)
"""Share of the bytes that four bits save, with a scale of 16 bits for 32 of them."""
_BLOCK = 32
_LARGEST = 7.0
_UNLIKELY = -1.0
"""Score of four bits at the start, in logits."""
_OPSET = 21
"""The operator set that knows integers of four bits."""


def eligible(graph: Graph) -> dict[str, Weight]:
    """Return the integer weights that four bits are worth it for, by name."""
    weights = stored_weights(graph, SMALLEST)
    return {w.value.name: w for w in weights if w.value.dtype is DType.INT8}


class BitChoice:
    """Which of the integer weights of a graph get four bits.

    Args:
        graph: with Q and DQ; a float graph has nothing to choose.
        trained: names of the constants that are trained.
        device: where the program runs.
    """

    def __init__(self, graph: Graph, trained: Collection[str], device: str = "cpu") -> None:
        self._weights = {n: w for n, w in eligible(graph).items() if n in trained}
        self.logits = {
            name: torch.nn.Parameter(torch.tensor(_UNLIKELY, device=device))
            for name in self._weights
        }
        self.temperature = 1.0

    def probability(self, name: str) -> torch.Tensor:
        """Return how likely a weight is to get four bits."""
        return torch.sigmoid(self.logits[name] / self.temperature)

    def shares(self) -> dict[str, torch.Tensor]:
        """Return the share of the bytes of each weight that is expected to be left."""
        return {name: 1.0 - SAVED * self.probability(name) for name in self.logits}

    def mixed(self, name: str, integers: torch.Tensor) -> torch.Tensor:
        """Return a weight as its probabilities mix it; gradients pass the rounding."""
        share = self.probability(name)
        coarse = in_blocks(integers, columns=self._weights[name].columns)
        return integers + share * (coarse - integers)

    def decided(self) -> list[str]:
        """Return the weights that are likelier to get four bits than eight, likeliest first."""
        found = {name: float(logit.detach()) for name, logit in self.logits.items()}
        return sorted((n for n, f in found.items() if f > 0), key=lambda n: (-found[n], n))


class JointWeights:
    """The weights of a graph with gates and bits, as training takes them.

    Args:
        weights: of the graph.
        widths: scores of widths, by group.
        bits: which weights get four bits.
    """

    def __init__(
        self,
        weights: TrainableWeights,
        widths: Mapping[str, torch.nn.Parameter],
        bits: BitChoice,
    ) -> None:
        self._weights, self._widths, self._bits = weights, widths, bits

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """Return the parameters of the weights alone."""
        return self._weights.parameters

    def groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Return all parameters by kind, "widths" and "bits" among them."""
        own = {"widths": list(self._widths.values()), "bits": list(self._bits.logits.values())}
        return {**self._weights.groups(), **own}

    def values(self) -> dict[str, torch.Tensor]:
        """Return what ``Program.run`` takes in the place of constants."""
        found = self._weights.values()
        return found | {n: self._bits.mixed(n, found[n]) for n in self._bits.logits if n in found}


def in_blocks(integers: torch.Tensor, *, columns: bool) -> torch.Tensor:
    """Return integers rounded to sixteen values for each block of a row, as floats.

    Gradients pass as if nothing was rounded.

    Args:
        integers: a weight; rows are slices of the first axis.
        columns: whether rows are slices of the last axis of a matrix instead.
    """
    rows = (
        (integers.T if columns else integers)
        .reshape(integers.shape[-1 if columns else 0], -1)
        .detach()
    )
    able = [size for size in range(16, 65) if rows.shape[1] % size == 0]
    block = min(able, key=lambda size: abs(size - _BLOCK), default=rows.shape[1])
    parts = rows.reshape(len(rows), -1, block)
    scale = (parts.abs().amax(dim=-1, keepdim=True) / _LARGEST).clamp_min(1e-6)
    coarse = ((parts / scale).round() * scale).reshape(rows.shape)
    shaped = coarse.T if columns else coarse.reshape(integers.shape)
    return replaced(integers, shaped)


def store_in_four_bits(graph: Graph, names: Collection[str], context: Context) -> int:
    """Store weights in four bits, in place, rounded by data; return how many were."""
    if names and graph.opset < _OPSET:
        ir.upgrade_opset(graph, _OPSET)
    weights = [w for w in stored_weights(graph, 1) if w.value.name in set(names)]
    known = curvatures(graph, weights, context)
    for weight in weights:
        expand(graph, weight, in_four_bits(weight, known.get(weight.value, ())))
    graph.sort()
    return len(weights)
