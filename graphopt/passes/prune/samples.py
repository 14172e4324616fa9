"""Which calibration samples weights are fitted to, and which are kept for scores.

A fit of many weights to few samples looks good on these samples whatever it does to others, so what
is decided by scores is decided on the rest. Once everything is decided, the rest may be fitted to
as well.
"""

from __future__ import annotations

from dataclasses import dataclass

_OF = 10
_SCORED = (2, 5, 8)
"""Of every ten; spread out, so that there is one among the first three."""
USUAL = -1
"""As many copies as make up for few images."""


def is_fitted(sample: int) -> bool:
    """Whether weights may be fitted to a sample, by number: seven of ten."""
    return sample % _OF not in _SCORED


def is_scored(sample: int) -> bool:
    """Whether a sample is kept for scores."""
    return not is_fitted(sample)


@dataclass(frozen=True)
class Fitting:
    """Samples that weights are fitted to, and altered copies of them.

    Args:
        copies: of each image, mirrored or moved (see ``copies.image_copies``); USUAL for as many
            as make up for few. A copy has the number of its sample, so it is never on another
            side than that.
        everything: whether no sample is kept for scores.
        first: only the first so many samples are looked at; 0 for all.
    """

    copies: int = 0
    everything: bool = False
    first: int = 0

    def __call__(self, sample: int) -> bool:
        """Whether a sample, by number, is fitted to."""
        return self._looks_at(sample) and (self.everything or is_fitted(sample))

    def scores(self, sample: int) -> bool:
        """Whether a sample, by number, is kept for scores, of those that are looked at."""
        return self._looks_at(sample) and is_scored(sample)

    def _looks_at(self, sample: int) -> bool:
        return not self.first or sample < self.first
