"""Scaling the channels between pairs of layers, one pair after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.passes.base import PassResult, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from graphopt.ir import Graph
    from graphopt.passes.base import Context
    from graphopt.passes.recover.layers.pairs import LayerPair

    Array = np.ndarray[Any, Any]


def equalize_pairs(
    graph: Graph,
    context: Context,
    pairs: Sequence[LayerPair],
    scales_of: Callable[[LayerPair], Array | None],
    *,
    left: str,
    done: Callable[[LayerPair], str],
) -> PassResult:
    """Divide the channels of each pair, and say of each what was done.

    Args:
        graph: is changed in place.
        context: takes the reasons.
        pairs: layers with channels between them that nobody else reads.
        scales_of: by what the channels of a pair are divided; None where it would not pay.
        left: why a pair is left as it is.
        done: what became of one that is not.
    """
    changed = 0
    for pair in pairs:
        scales = scales_of(pair)
        if scales is None:
            context.explain(pair.first, left)
            continue
        pair.scale(graph, scales)
        context.explain(pair.first, done(pair))
        changed += 1
    if not changed:
        return PassResult(False)
    return PassResult(True, (counted(changed, "pair", "equalized"),), {"pairs": changed})
