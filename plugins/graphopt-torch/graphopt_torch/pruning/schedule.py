"""When how much of what is to go has gone."""

from __future__ import annotations


def cubic_share(step: int, steps: int) -> float:
    """Return the share of all removals that is done after some of the steps.

    1 - (1 - t)^3 for t = step / steps: most goes early, while there is time to learn without it.
    Source: Zhu, Gupta 2017, "To prune, or not to prune", section 3, equation 1.

    Args:
        step: 0 to ``steps``.
        steps: in which everything goes; at least 1.
    """
    left = 1.0 - min(max(step / steps, 0.0), 1.0)
    return 1.0 - left**3
