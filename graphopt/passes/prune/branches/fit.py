"""Fit one linear operator in the place of every residual branch, in one run over the data.

With rows x of what a kernel sees of a branch's input and y of what the branch makes, the weights
minimise E|y - x W - b|^2 + r |W|^2 in closed form. Only means and products of rows are kept, for
two halves of the samples apart: each half says how well the other's weights do, and so which r is
best. A kernel of 1 is part of a kernel of 3, so both come from the same sums.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.analysis.branches import Branch
from graphopt.passes.prune.branches.linear import (
    Kind,
    Linear,
    Solution,
    chosen,
    regress,
)
from graphopt.passes.prune.branches.placement import Placement, placement_of
from graphopt.passes.prune.branches.sums import BranchSums, product_of_kernel
from graphopt.passes.prune.reconstruct.cross_validation import joined
from graphopt.passes.prune.reconstruct.moments import (
    LARGEST_BYTES,
    LARGEST_FEATURES,
    ROWS_PER_FEATURE,
    Moments,
)
from graphopt.passes.prune.reconstruct.walk import walks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from graphopt.analysis.branches import Chain
    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.prune.reconstruct.rows import MatrixProduct
    from graphopt.passes.prune.reconstruct.walk import Batch, Walk

    Array = np.ndarray[Any, Any]

_KINDS = {1: (Kind.LIN1, Kind.MERGED1), 3: (Kind.LIN3, Kind.MERGED3)}
"""By size of kernel: beside the skip, and with the skip in it."""


@dataclass(frozen=True)
class Fitted:
    """What was found for one branch or chain.

    Args:
        linears: the operators that can stand in its place.
        declined: why others cannot.
        mean: of what it makes, float64 [channels]; None where the data do not tell.
        channel_axis: of what it makes: 1, or -1.
    """

    linears: Mapping[Kind, Linear] = field(default_factory=dict)
    declined: Mapping[Kind, str] = field(default_factory=dict)
    mean: Array | None = None
    channel_axis: int = 1


def fit_branches(
    graph: Graph,
    chains: Sequence[Chain],
    context: Context,
    samples: Callable[[int], bool],
    through: tuple[Walk, Walk] | None = None,
) -> dict[str, Fitted]:
    """Return what can stand in the place of each branch or chain, by name.

    A kernel is fitted where there are ten rows for each of its features, and its moments find
    room; branches of few channels are served first.

    Args:
        graph: holds the chains, with its shapes.
        chains: residual branches, or runs between two tensors.
        context: runs the data.
        samples: whether a sample, by number, may be used for the fit.
        through: walks through the original and through ``graph``: the same tensors (exit and skip)
            of the original have the values to aim at, and what the skip is off by is made up for.
            Without them ``graph`` is its own original.
    """
    sums, refused = _affordable(chains)
    for given, wanted in _batches(graph, sums, context, samples, through):
        for each in sums:
            each.update(given, wanted, context.seed)
    return refused | {each.chain.name: _result(each) for each in sums}


def _affordable(chains: Sequence[Chain]) -> tuple[list[BranchSums], dict[str, Fitted]]:
    """Return what to accumulate within the memory there is."""
    refused: dict[str, Fitted] = {}
    planned: list[tuple[int, str, Chain, Placement]] = []
    for chain in chains:
        placement = placement_of(chain)
        if isinstance(placement, str):
            refused[chain.name] = _refusal(placement)
        else:
            planned.append((placement.inputs, chain.name, chain, placement))
    kept, room = [], LARGEST_BYTES
    for _, name, chain, placement in sorted(planned, key=lambda p: p[:2]):
        fitting = next((s for s in _candidates(chain, placement) if s.bytes <= room), None)
        if fitting is None:
            refused[name] = _refusal("no kernel fits its sizes in the memory that there is")
        else:
            room -= fitting.bytes
            kept.append(fitting)
    return kept, refused


def _refusal(reason: str, of_removal: bool = False) -> Fitted:
    kinds = [kind for kind in Kind if of_removal or kind is not Kind.REMOVE]
    return Fitted(declined=dict.fromkeys(kinds, reason))


def _candidates(chain: Chain, placement: Placement) -> Iterator[BranchSums]:
    """Yield the sums of the larger kernel, then of the smaller."""
    sizes = (chain.entry.shape or ())[2:]
    flat = placement.space is None or all(size == 1 for size in sizes)
    for kernel in (1,) if flat else (3, 1):
        product = product_of_kernel(placement, kernel)
        if product is not None and product.features <= LARGEST_FEATURES:
            yield BranchSums(chain, placement, kernel, product)


def _batches(
    graph: Graph,
    sums: Sequence[BranchSums],
    context: Context,
    samples: Callable[[int], bool],
    through: tuple[Walk, Walk] | None,
) -> Iterator[tuple[Batch, Batch]]:
    """Yield the tensors there are and those there should be."""
    read = [name for each in sums for name in each.read]
    aims = [name for each in sums for name in each.aims]
    if through is not None:
        wanted = through[0].tensors(aims)
        yield from zip(through[1].tensors(read), wanted, strict=True)
    elif sums:
        (walk,) = walks([(graph, read + aims)], context, samples)
        yield from ((batch, batch) for batch in walk.tensors(read + aims))


# -- results -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    """What a kernel sees: its features among those of the sums, and where it sees itself.

    Args:
        product: reads its rows.
        features: positions in the moments; int64.
        own: tap that lies on the position it makes; None where no tap does.
    """

    product: MatrixProduct
    features: Array
    own: int | None


def _result(sums: BranchSums) -> Fitted:
    if sums.problem:
        return _refusal(sums.problem, sums.broadcasts)
    folds = sums.moments()
    if not folds:
        return _refusal("no sample gave finite values")
    whole = joined(*folds) if len(folds) == 2 else folds[0]
    outputs = sums.placement.outputs
    power = float(whole.variance_out[:, :outputs].sum())
    linears: dict[Kind, Linear] = {}
    declined: dict[Kind, str] = {}
    for kernel, (beside, merged) in _KINDS.items():
        window = _window(sums, kernel, whole.rows)
        if isinstance(window, str):
            declined |= {beside: window, merged: window}
            continue
        found = _operator(sums, window, regress(_of(folds, window, slice(0, outputs))), power)
        joint = found
        if sums.projects:
            solved = regress(_of(folds, window, slice(outputs, None)))
            joint = _operator(sums, window, solved, power)
        for kind, made in ((beside, found), (merged, _merged(sums, window, joint))):
            if isinstance(made, str):
                declined[kind] = made
            else:
                linears[kind] = made
    return Fitted(linears, declined, whole.mean_out[0, :outputs], sums.placement.channel_axis)


def _of(folds: Sequence[Moments], window: _Window, columns: slice) -> list[Moments]:
    return [chosen(m, window.features, columns) for m in folds]


def _window(sums: BranchSums, kernel: int, rows: int) -> _Window | str:
    """Return what a kernel sees, or why it cannot be fitted."""
    if kernel > sums.kernel:
        return "a larger kernel has nothing more to see, or its moments take too much memory"
    own = product_of_kernel(sums.placement, kernel)
    if own is None:
        return "the kernel is too small for what the branch crops"
    needed = ROWS_PER_FEATURE * own.features
    if rows < needed:
        return f"{rows} rows are too few: {own.features} features need {needed}"
    if sums.placement.space is None:
        return _Window(own, np.arange(own.features), 0)
    axes = len(sums.placement.space)
    fronts = own.node.attribute("pads")[:axes]
    inside = zip(sums.product.node.attribute("pads")[:axes], fronts, strict=True)
    taps = _taps([wide - front for wide, front in inside], kernel, sums.kernel)
    if taps is None:
        return "the kernel sees what the larger one does not"
    channels = np.arange(sums.placement.inputs)[:, None] * sums.kernel**axes
    itself = _taps(fronts, 1, kernel)
    features = (channels + taps).reshape(-1)
    return _Window(own, features, None if itself is None else int(itself[0]))


def _taps(first: Sequence[int], kernel: int, wide: int) -> Array | None:
    """Return which taps of a wide kernel a smaller one has that begins at ``first``."""
    if any(f < 0 or f + kernel > wide for f in first):
        return None
    axes = np.meshgrid(*[np.arange(f, f + kernel) for f in first], indexing="ij")
    return np.ravel_multi_index([a.reshape(-1) for a in axes], [wide] * len(first))


def _operator(
    sums: BranchSums, window: _Window, solved: Solution | None, power: float
) -> Linear | str:
    """Return the operator that solved weights make; ``power`` is the variance of f(x)."""
    if solved is None:
        return "the least squares have no finite solution"
    error = solved.error / power if power > 0 else 0.0
    if sums.placement.space is None:
        return Linear(solved.weight, solved.bias, error=error, ridge=solved.ridge)
    node, kernel = window.product.node, window.product.weight.array().shape[2:]
    shape = (sums.placement.outputs, sums.placement.inputs, *kernel)
    weight = np.ascontiguousarray(solved.weight.T).reshape(shape)
    strides, pads = tuple(node.attribute("strides")), tuple(node.attribute("pads"))
    return Linear(weight, solved.bias, strides, pads, error, solved.ridge)


def _merged(sums: BranchSums, window: _Window, joint: Linear | str) -> Linear | str:
    """Return the operator with the skip in it: as fitted, or with the identity added."""
    if not isinstance(sums.chain, Branch) or sums.chain.shortcut is None:
        return "the skip is not made of the same tensor alone"
    if isinstance(joint, str) or sums.projects:
        return joint
    if window.own is None:
        return "the kernel does not see the position that it makes"
    weight = joint.weight.copy()
    channels = np.arange(sums.placement.outputs)
    if joint.strides:
        weight.reshape(*weight.shape[:2], -1)[channels, channels, window.own] += 1.0
    else:
        weight[channels, channels] += 1.0
    return replace(joint, weight=weight)
