"""Which calibration samples weights are fitted to, and which are kept for scores.

A fit of many weights to few samples looks good on these samples whatever it does to others, so what
is decided by scores is decided on the rest.
"""

from __future__ import annotations

_OF = 10
_FITTED = 7


def is_fitted(sample: int) -> bool:
    """Whether weights may be fitted to a sample, by number: seven of ten."""
    return sample % _OF < _FITTED


def is_scored(sample: int) -> bool:
    """Whether a sample is kept for scores."""
    return not is_fitted(sample)
