"""Which sites exclude each other: what is inside a branch, and the branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.planner.pruning.knapsack import Block
from graphopt.planner.pruning.sites import contains

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from graphopt.analysis.branches import Branch
    from graphopt.planner.pruning.knapsack import Option
    from graphopt.planner.pruning.sites import WidthSite


def build_blocks(
    widths: Sequence[WidthSite], branches: Sequence[Branch], options: Mapping[str, Sequence[Option]]
) -> tuple[Block, ...]:
    """Return the blocks to choose from.

    A branch holds the groups and the branches that are within its operators. Branches that overlap
    in another way, as the two paths of a downsampling do, are one block: one of them changes.

    Args:
        widths: groups that can shrink.
        branches: from ``residual_branches``.
        options: by name of group or branch.
    """
    clusters = _clusters(branches)
    ranked = sorted(range(len(clusters)), key=lambda i: min(len(b.nodes) for b in clusters[i]))
    held: dict[int, list[Block]] = {i: [] for i in ranked}
    free: list[Block] = []
    for site in widths:
        home = next((i for i in ranked if any(contains(b, site) for b in clusters[i])), None)
        block = Block(tuple(options.get(site.name, ())))
        (free if home is None else held[home]).append(block)
    for place, index in enumerate(ranked):
        cluster = clusters[index]
        whole = tuple(o for branch in cluster for o in options.get(branch.name, ()))
        block = Block(whole, tuple(held[index]))
        home = next((i for i in ranked[place + 1 :] if _is_inside(cluster, clusters[i])), None)
        (free if home is None else held[home]).append(block)
    return tuple(free)


def _clusters(branches: Sequence[Branch]) -> list[list[Branch]]:
    """Return branches, together where they overlap without one being inside the other."""
    clusters: list[list[Branch]] = []
    for branch in branches:
        touching = [c for c in clusters if any(_crosses(branch, other) for other in c)]
        merged = [other for cluster in touching for other in cluster]
        clusters = [c for c in clusters if c not in touching]
        clusters.append([*merged, branch])
    return clusters


def _crosses(one: Branch, other: Branch) -> bool:
    return one.overlaps(other) and not _nested(one, other)


def _nested(one: Branch, other: Branch) -> bool:
    return _within(one, other) or _within(other, one)


def _within(inner: Branch, outer: Branch) -> bool:
    return {inner.join, *inner.nodes} <= set(outer.nodes)


def _is_inside(inner: Sequence[Branch], outer: Sequence[Branch]) -> bool:
    return any(_within(one, other) for one in inner for other in outer)
