"""Say which outputs have coarser steps because pairs of their products must fit into 16 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.ir import Node
    from graphopt.passes.base import Context

    Array = np.ndarray[Any, Any]

_NOTABLE = 1.0 + 1e-6
"""Below this factor a scale is the same once it is stored in 32 bits."""


def explain_coarser(factors: Mapping[Node, Array], context: Context) -> dict[str, float]:
    """Explain at each operator how many scales were raised and by how much; return the totals.

    Args:
        factors: by which each output's scale was raised, at least 1.
        context: is told.

    Returns:
        Metrics: outputs, of how many, and the largest factor; empty where nothing is at risk.
    """
    if not factors:
        return {}
    for node, found in factors.items():
        raised = found[found > _NOTABLE]
        if len(raised):
            context.explain(
                node,
                f"{len(raised)} of {len(found)} outputs have steps up to {raised.max():.2f} times "
                f"as coarse (mean {raised.mean():.2f}): neighbouring weights would exceed 16 bits "
                "together without VNNI",
            )
    together = np.concatenate(list(factors.values()))
    return {
        "outputs": len(together),
        "coarser_outputs": int((together > _NOTABLE).sum()),
        "coarsest": float(together.max(initial=1.0)),
    }
