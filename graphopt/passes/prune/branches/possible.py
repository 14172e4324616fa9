"""What can take the place of a branch, as far as that can be told without data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.analysis.branches import Branch
from graphopt.passes.prune.branches.fit import Fitted
from graphopt.passes.prune.branches.linear import Kind
from graphopt.passes.prune.branches.options import obstacles
from graphopt.passes.prune.branches.placement import placement_of
from graphopt.passes.prune.branches.sums import product_of_kernel
from graphopt.passes.prune.reconstruct.moments import LARGEST_FEATURES

if TYPE_CHECKING:
    from graphopt.analysis.branches import Chain
    from graphopt.passes.prune.branches.placement import Placement

_KERNEL = {Kind.LIN1: 1, Kind.MERGED1: 1, Kind.LIN3: 3, Kind.MERGED3: 3}


def possible_kinds(branch: Chain) -> tuple[tuple[Kind, ...], str]:
    """Return what can stand in the place of a branch, and why nothing can if that is so.

    To leave a branch out without its mean is never better than with it, and not among the kinds.
    Whether there are rows enough for a fit only data can tell.
    """
    placement = placement_of(branch)
    if isinstance(placement, str):
        return (), placement
    against = obstacles(branch, Fitted())
    open_kinds = [k for k in Kind if k is not Kind.REMOVE and k not in against]
    kinds = tuple(k for k in open_kinds if _fits(branch, placement, k))
    if kinds:
        return kinds, ""
    return (), min(against.values(), default="no kernel fits its sizes")


def _fits(branch: Chain, placement: Placement, kind: Kind) -> bool:
    kernel = _KERNEL.get(kind)
    if kernel is None:
        return True
    merged = kind in {Kind.MERGED1, Kind.MERGED3}
    if merged and (not isinstance(branch, Branch) or branch.shortcut is None):
        return False
    sizes = (branch.entry.shape or ())[2:]
    if kernel > 1 and (placement.space is None or all(size == 1 for size in sizes)):
        return False
    product = product_of_kernel(placement, kernel)
    return product is not None and product.features <= LARGEST_FEATURES
