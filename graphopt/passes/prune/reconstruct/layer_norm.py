"""Match what a normalization gives after channels went from what it normalizes.

Its mean and variance are then those of fewer channels, so every output is shifted and scaled. For
each channel that is left, with the moments of the output before (mu, sigma) and now (mu', sigma'):

    gamma <- gamma s,   beta <- mu + s (beta - mu'),   s = sigma / sigma' with shrinkage

Normalizations without a beta only have their gain matched, to the power of the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt import ir
from graphopt.passes.prune.reconstruct.products import counterpart
from graphopt.passes.prune.reconstruct.statistics import scales
from graphopt.passes.prune.reconstruct.walk import walks

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.analysis.coupling import Cut
    from graphopt.ir import Graph, Node, Value
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_WITH_BETA = ("LayerNormalization",)
_WITHOUT = ("RMSNormalization", "SimplifiedLayerNormalization")


def match_layer_norms(
    original: Graph, pruned: Graph, cut: Cut, context: Context, samples: Callable[[int], bool]
) -> tuple[str, ...]:
    """Match normalizations that lost channels, one after the other; return their labels.

    Args:
        original: the graph that ``cut`` is of.
        pruned: what the cut made of it; gains and biases are changed in place.
        cut: what was kept.
        context: runs the data.
        samples: which samples, by number, are fitted to.
    """
    done = []
    for node in original.nodes(*_WITH_BETA, *_WITHOUT):
        smaller = counterpart(node, pruned)
        if smaller is None or not is_touched(node, cut) or not _is_matched(node, smaller):
            continue
        if _match(original, node, pruned, smaller, cut, context, samples):
            done.append(node.label)
    return tuple(done)


def is_touched(node: Node, cut: Cut) -> bool:
    """Whether a node normalizes over channels some of which a cut removes."""
    output = node.outputs[0]
    last = len(output.shape or ()) - 1
    known = node.op in (*_WITH_BETA, *_WITHOUT) and last >= 0
    return known and cut.keep(output, last) is not None


def _is_matched(node: Node, smaller: Node) -> bool:
    last = len(node.outputs[0].shape or ()) - 1
    if node.attribute("axis", -1) not in {-1, last}:
        return False
    return all(_is_own(value) for value in smaller.inputs[1 : 3 if _has_beta(smaller) else 2])


def _has_beta(node: Node) -> bool:
    return node.op in _WITH_BETA and len(node.inputs) > 2 and node.inputs[2] is not None


def _is_own(value: Value | None) -> bool:
    return value is not None and value.is_initializer and value.is_constant and len(value.uses) == 1


class _Statistics:
    """Sums over all rows of a tensor, about its first row."""

    def __init__(self) -> None:
        self.shift: Array | None = None
        self.sum: Array | float = 0.0
        self.square: Array | float = 0.0
        self.rows = 0

    def update(self, values: Array) -> None:
        rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
        if self.shift is None:
            self.shift = rows[:1].copy()
        rows = rows - self.shift
        self.sum = self.sum + rows.sum(axis=0)
        self.square = self.square + np.square(rows).sum(axis=0)
        self.rows += len(rows)

    def result(self) -> tuple[Array, Array]:
        """Return mean and variance of each channel."""
        assert self.shift is not None
        apart = np.asarray(self.sum) / self.rows
        variance = np.asarray(self.square) / self.rows - np.square(apart)
        return self.shift[0] + apart, np.maximum(variance, 0.0)


def _match(
    original: Graph,
    node: Node,
    pruned: Graph,
    smaller: Node,
    cut: Cut,
    context: Context,
    samples: Callable[[int], bool],
) -> bool:
    before, after = _Statistics(), _Statistics()
    name = node.outputs[0].name
    kept = cut.kept(node.outputs[0], len(node.outputs[0].shape or ()) - 1)
    through = walks([(original, [name]), (pruned, [name])], context, samples)
    for wanted, found in zip(*(walk.tensors([name]) for walk in through), strict=True):
        before.update(wanted.tensors[name][..., kept])
        after.update(found.tensors[name])
    if not before.rows:
        return False
    (mean, variance), (mean_now, variance_now) = before.result(), after.result()
    finite = all(np.isfinite(a).all() for a in (mean, variance, mean_now, variance_now))
    if not finite:
        return False
    if _has_beta(smaller):
        factor = scales(variance, variance_now)
        beta = smaller.inputs[2]
        assert beta is not None
        _scale(pruned, beta, factor, mean - factor * mean_now)
    else:
        factor = scales(variance + mean**2, variance_now + mean_now**2)
    gain = smaller.inputs[1]
    assert gain is not None
    _scale(pruned, gain, factor, np.zeros_like(factor))
    return True


def _scale(graph: Graph, value: Value, factor: Array, shift: Array) -> None:
    old = value.array()
    made = old.astype(np.float64) * factor + shift
    assert value.tensor is not None
    tensor = ir.Tensor.from_array(np.ascontiguousarray(made, old.dtype), value.tensor.dtype)
    graph.set_tensor(value, tensor)
